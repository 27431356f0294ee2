"""Signatures of detector folders (OpenSSF model-signing) and of entries of the record, with a key of one's own.

INPFORMER_SIGNING_KEY names a PEM file with a private EC key; INPFORMER_VERIFY_KEY one with the public key. Without them
nothing is signed, and nothing is asked for.
"""

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inpformer.errors import UserError

SIGNING_KEY, VERIFY_KEY = "INPFORMER_SIGNING_KEY", "INPFORMER_VERIFY_KEY"
# Within a version, beside its detector folder.
SIGNATURE_FOLDER, SIGNATURE_FILE = "signature", "detector.sig"


def signing_key() -> Path | None:
    """The private key's file, if one is configured."""
    return _named(SIGNING_KEY)


def verify_key() -> Path | None:
    """The public key's file, if one is configured."""
    return _named(VERIFY_KEY)


def sign_text(text: str) -> str | None:
    """The signature of a text (ECDSA over its sha256, base64); None where no key is configured.

    Raises UserError for a key that is none.
    """
    if (file := signing_key()) is None:
        return None
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = _read(SIGNING_KEY, file, lambda content: load_pem_private_key(content, password=None))
    return base64.b64encode(key.sign(text.encode(), _ecdsa())).decode()


def text_fits(text: str, signature: str, file: Path) -> bool:
    """Whether a signature is of the text, by the public key in `file`. Raises UserError for a key that is none."""
    from cryptography.exceptions import InvalidSignature

    try:
        public_key(file).verify(base64.b64decode(signature, validate=True), text.encode(), _ecdsa())
    except (InvalidSignature, ValueError):
        return False
    return True


def public_key(file: Path) -> Any:
    """The public EC key in a PEM file. Raises UserError if it holds none."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    return _read(VERIFY_KEY, file, load_pem_public_key)


def sign_folder(folder: Path, file: Path) -> None:
    """Writes the signature of a folder's files into `file`. Raises UserError for a key that is none."""
    key = signing_key()
    if key is None:
        raise UserError(f"{SIGNING_KEY} names no key: set it to a PEM file with a private EC key.")
    sign_text("")  # a key that is none is refused in our words
    from model_signing.signing import Config

    Config().use_elliptic_key_signer(private_key=str(key)).sign(str(folder), str(file))


def folder_fault(folder: Path, signature: Path, key: Path) -> str | None:
    """What is wrong with a folder's signature, by the public key in `key`; None if nothing is."""
    public_key(key)
    from model_signing.verifying import Config

    try:
        Config().use_elliptic_key_verifier(public_key=str(key)).verify(str(folder), str(signature))
    except Exception as error:  # of a signature that is none the library raises whatever its parsing did
        return (str(error).splitlines() or [type(error).__name__])[0][:300]
    return None


def _named(variable: str) -> Path | None:
    return Path(named).expanduser() if (named := os.environ.get(variable)) else None


def _ecdsa() -> Any:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    return ECDSA(SHA256())


def _read(variable: str, file: Path, load: Callable[[bytes], Any]) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

    try:
        key = load(file.read_bytes())
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UserError(f"{variable} is {file}, which is no key without a password in PEM ({reason}).") from None
    if not isinstance(key, EllipticCurvePrivateKey | EllipticCurvePublicKey):
        raise UserError(f"{variable} is {file}, which holds no EC key: make one as docs/promotion.md says.")
    return key
