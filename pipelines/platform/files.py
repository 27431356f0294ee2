"""Files that appear whole or not at all, and what to say of a disk that is full."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inpformer.errors import UserError

# Somebody else's, on a read-only disk, a file where a folder should be, or the other way round.
UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


def out_of_space(error: BaseException) -> bool:
    """Whether a disk is full, or somebody's part of it used up; safetensors says so in words alone."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(f"(os error {number})" in str(error) for number in full)


def no_space(place: str) -> str:
    """The sentence about it."""
    return f"no space left in {place}: free some and run the same command again, which goes on from what is finished."


def refusal(error: OSError) -> str | None:
    """The sentence about a file or folder that this process may not use, such as one on a read-only disk, or whose disk
    is full; None for any other error.
    """
    if out_of_space(error):
        return no_space(error.filename or "the working directory")
    if error.errno not in UNUSABLE:
        return None
    # pyarrow names the file in its words alone.
    what = f"{error.filename} cannot be used ({error.strerror})" if error.filename else str(error.strerror)
    return f"{what}: mend that and run the same command again."


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target`; renames it to `target` at the end, removes it on any failure.

    A file or a folder may be written there. An existing `target` is replaced. Raises UserError if the disk is full or
    does not let itself be written.
    """
    # One name for all processes: what a killed one left is removed by the next.
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
        yield temporary
        if target.is_dir():
            _remove(target)
        temporary.replace(target)
    except Exception as error:
        if out_of_space(error):
            raise UserError(no_space(str(target.parent.resolve()))) from None
        if isinstance(error, OSError) and (sentence := refusal(error)):
            raise UserError(sentence) from None
        raise
    finally:
        with suppress(OSError):  # where nothing could be written, nothing is left either
            _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
