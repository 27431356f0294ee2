"""Where a feature store keeps its files: objects by name, in a folder here or in a bucket (pipelines/bucket.py)."""

import hashlib
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import uuid4

from inpformer.errors import UserError

TEMPORARY = ".tmp"
HOUR = 3600


class Range(NamedTuple):
    """`length` bytes of the object `name`, from `start`; `crc32` is their checksum, where it is known."""

    name: str
    start: int
    length: int
    crc32: int | None = None

    def holds(self, content: bytes) -> bool:
        """Whether these are the bytes."""
        return len(content) == self.length and (self.crc32 is None or zlib.crc32(content) == self.crc32)


class Objects(Protocol):
    """Objects by name; a name may hold slashes. Every failure to reach them is a UserError."""

    address: str

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Name and size (bytes) of every object directly under `prefix`, which ends with a slash, sorted by name."""

    def read(self, name: str) -> bytes | None:
        """The whole object, None if there is none."""

    def read_ranges(self, ranges: Sequence[Range]) -> list[bytes]:
        """Some parts of objects, in their order; shorter than asked for, or empty, where there is no more."""

    def write(self, name: str, content: bytes) -> None:
        """Puts an object there: whole, or not at all."""

    def remove(self, name: str) -> None:
        """Removes an object, if it is there."""

    def has_digest(self, name: str, sha256: str) -> bool:
        """Whether the object is as it was written, with that sha256 (hex)."""


class Folder:
    """`Objects` as files under a folder, which several machines may share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = str(folder)

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See `Objects`."""
        for file in sorted((self.folder / prefix).glob("*")):
            with suppress(FileNotFoundError), self._explained(file):  # what others remove meanwhile is not there
                if file.is_file():
                    yield f"{prefix}{file.name}", file.stat().st_size

    def read(self, name: str) -> bytes | None:
        """See `Objects`."""
        with suppress(FileNotFoundError), self._explained(self.folder / name):
            return (self.folder / name).read_bytes()
        return None

    def read_ranges(self, ranges: Sequence[Range]) -> list[bytes]:
        """See `Objects`."""
        return [self._read_range(one) for one in ranges]

    def _read_range(self, wanted: Range) -> bytes:
        file = self.folder / wanted.name
        with suppress(FileNotFoundError), self._explained(file), file.open("rb") as f:
            f.seek(wanted.start)
            return f.read(wanted.length)
        return b""

    def write(self, name: str, content: bytes) -> None:
        """See `Objects`. It appears by renaming: a killed process leaves it whole or a temporary file."""
        target = self.folder / name
        temporary = target.with_name(f".{uuid4().hex}{TEMPORARY}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._remove_old_temporaries(target.parent)
            temporary.write_bytes(content)
            temporary.replace(target)
        except OSError as error:
            raise UserError(
                f"the feature store {self.folder} takes no file ({error.strerror}): free or change it."
            ) from None
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _remove_old_temporaries(self, folder: Path) -> None:
        """What killed processes left: nobody writes one file for an hour."""
        for file in folder.glob(f".*{TEMPORARY}"):
            with suppress(OSError):
                if time.time() - file.stat().st_mtime > HOUR:
                    file.unlink()

    def remove(self, name: str) -> None:
        """See `Objects`."""
        with self._explained(self.folder / name):
            (self.folder / name).unlink(missing_ok=True)

    def has_digest(self, name: str, sha256: str) -> bool:
        """See `Objects`. Reads the whole file."""
        file = self.folder / name
        with suppress(FileNotFoundError), self._explained(file), file.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest() == sha256
        return False

    @contextmanager
    def _explained(self, file: Path) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UserError(f"{file} cannot be used ({error.strerror}): mend that.") from None
