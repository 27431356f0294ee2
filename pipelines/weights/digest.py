"""The sha256 of files that rarely change, computed once: a file is the same while its inode, size and times are."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from pipelines.platform import files

KNOWN = Path(".dvc/tmp/weights.json")
# A file that was written a moment ago may be written again within one tick of its clock: it is not remembered yet.
SETTLED_SECONDS = 2.0


def digest_of(path: Path) -> str:
    """sha256 (hex) of a file, or of all files in a folder with their names. Raises OSError if one cannot be read."""
    known = _read()
    digests = {str(file.relative_to(path)): _file_digest(file, known) for file in _files(path)}
    _write(known)
    if path.is_file():
        (digest,) = digests.values()
        return digest
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _file_digest(file: Path, known: dict[str, Any]) -> str:
    """From `known` if the file did not change since; else computed, and known from now on."""
    status = file.stat()
    now = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    entry = known.get(str(file.resolve()))
    if isinstance(entry, list) and entry[:-1] == now and isinstance(entry[-1], str):
        return entry[-1]
    with file.open("rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    if time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_SECONDS:
        known[str(file.resolve())] = [*now, digest]
    return digest


def _read() -> dict[str, Any]:
    """What is known by path; nothing where the file is missing or damaged."""
    try:
        known = json.loads(KNOWN.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(known: dict[str, Any]) -> None:
    """Only in a repository of DVC: elsewhere each digest is computed anew."""
    if KNOWN.parent.parent.is_dir() and known != _read():
        with files.written_whole(KNOWN) as temporary:
            temporary.write_text(json.dumps(known))
