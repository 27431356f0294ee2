"""How every entry point of the pipeline ends: a sentence for a person and an exit code, never a traceback."""

import errno
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from inpformer.errors import UserError


def run(main: Callable[[], None]) -> None:
    """Calls `main`; exits 1 with the sentence of a UserError, 130 on Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept, run the same command again to go on.", file=sys.stderr)
        sys.exit(130)


def without_password(text: str) -> str:
    """A text with the user and password of every address in it left out."""
    return re.sub(r"://[^/@\s]*@", "://", text)


def out_of_space(error: BaseException) -> bool:
    """Whether a disk is full, or somebody's part of it used up; safetensors says so in words alone."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(f"(os error {number})" in str(error) for number in full)


def no_space(place: str) -> str:
    """The sentence about it."""
    return f"no space left in {place}: free some and run the same command again, which goes on from what is finished."


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target`; renames it to `target` at the end, removes it on any failure.

    A file or a folder may be written there. An existing `target` is replaced. Raises UserError if the disk is full.
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
        raise
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
