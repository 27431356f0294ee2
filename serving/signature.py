"""Whether a detector folder is signed by the key that the operator trusts (OpenSSF model-signing)."""

from pathlib import Path

from inpformer.errors import UserError

# Within a version, beside its detector folder.
SIGNATURE = "signature/detector.sig"


def check(folder: Path, signature: Path, key: Path) -> None:
    """Raises UserError unless `signature` is of the files in `folder`, no more and no fewer, by the public key."""
    from model_signing.verifying import Config  # only where a key is configured

    try:
        config = Config().use_elliptic_key_verifier(public_key=str(key))
    except (OSError, ValueError) as error:
        raise UserError(f"--verify-key is {key}, which is no public EC key in PEM ({_first(error)}).") from None
    try:
        config.verify(str(folder), str(signature))
    except Exception as error:  # of a signature that is none the library raises whatever its parsing did
        raise UserError(f"its signature does not fit ({_first(error)}), so it is not loaded") from None


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
