"""Files of a detector whose sha256 detector.json names."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from inpformer.errors import UserError

T = TypeVar("T")


def write_content(file: Path, content: bytes) -> str:
    """Returns the sha256 (hex) of the file, which `read_content` asks for."""
    file.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_content(file: Path, sha256: str, parse: Callable[[bytes], T]) -> T:
    """What `parse`, a reader of safetensors, makes of the file. Raises UserError naming the file if it is missing,
    damaged or not the one with this sha256.
    """
    try:
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(f"{file} has another sha256 than detector.json says: fetch or train the detector again.")
        return parse(content)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read ({error}): fetch or train the detector again.") from None
