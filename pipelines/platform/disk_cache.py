"""A cache of bounded size on the local disk, shared by all processes of a machine."""

import fcntl
import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

# What is thrown away at a time, so that not every new entry has to look for an old one.
ROOM = 0.1


class DiskCache:
    """Contents by name, in files; those not asked for longest go first. What it holds is checked when it is read, and
    its total never exceeds `limit` bytes, whatever number of processes fills it.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    def get(self, name: str) -> bytes | None:
        """The content, or None."""
        file = self._file(name)
        try:
            content = file.read_bytes()
        except OSError:
            return None
        with suppress(OSError):
            os.utime(file)
        body, checksum = content[:-4], content[-4:]
        return body if zlib.crc32(body).to_bytes(4, "little") == checksum else None

    def put(self, name: str, content: bytes) -> None:
        """Keeps a content, if it finds room: a full or broken disk is no failure, only slower."""
        size = len(content) + 4
        if size > self.limit:
            return
        file = self._file(name)
        temporary = file.with_name(f".{uuid4().hex}.tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with self._total() as total:
                if total[0] + size > self.limit:
                    total[0] = self._throw_away(self.limit - max(size, int(self.limit * ROOM)))
                temporary.write_bytes(content + zlib.crc32(content).to_bytes(4, "little"))
                total[0] += size - (file.stat().st_size if file.exists() else 0)
                temporary.replace(file)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return self.folder / digest[:2] / digest

    @contextmanager
    def _total(self) -> Iterator[list[int]]:
        """The bytes in use, in a list of one, for this process alone until it lets go."""
        with (self.folder / "total").open("a+") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            f.seek(0)
            text = f.read()  # empty at first and after a kill, anything after a power cut
            total = [int(text) if text.isdecimal() else self._throw_away(self.limit)]
            f.truncate(0)  # a kill from here on has it counted anew
            yield total
            f.write(str(total[0]))

    def _throw_away(self, most: int) -> int:
        """Removes what was not asked for longest until at most `most` bytes are left; returns how many are."""
        entries = [entry for folder in self.folder.iterdir() if folder.is_dir() for entry in os.scandir(folder)]
        found = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in entries)
        total = sum(size for _, size, _ in found)
        for _, size, path in found:
            if total <= most:
                break
            Path(path).unlink(missing_ok=True)
            total -= size
        return total
