"""Locks between processes that may write the same files: gone with the process that holds one."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """The descriptor of a file or folder, by which it can be locked."""
    file = os.open(path, flags, 0o600)
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def locked(path: Path, kind: int = fcntl.LOCK_EX, flags: int = os.O_RDONLY) -> Iterator[None]:
    """Waits for the lock of a file or folder, which need only be readable, and holds it."""
    with opened(path, flags) as file:
        fcntl.flock(file, kind)
        yield
