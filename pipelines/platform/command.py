"""How every command starts and ends: what needs no work is refused at once, a person gets a sentence and an exit code,
never a traceback.
"""

import gc
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from inpformer.errors import StaleFeaturesError, UserError
from pipelines.platform import files

# What to run: which command does it, only the pipeline knows.
HINTS: dict[type[UserError], str] = {StaleFeaturesError: " (`dvc repro --force --single-item features`)"}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = "interrupted: what is finished is kept, run the same command again to go on."


def run(main: Callable[[], None]) -> None:
    """Calls `main`; exits 1 with a sentence for a UserError and for a file system that does not let us work, 130 on
    Ctrl-C or SIGTERM, as SIGPIPE would end it where nobody reads what it prints any more (`| head`).
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        sys.exit(f"error: {error}{HINTS.get(type(error), '')}")
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            sys.exit(128 + signal.SIGPIPE)
        if sentence := files.refusal(error):
            sys.exit(f"error: {sentence}")
        raise


def _nobody_reads() -> bool:
    """Whether it is stdout that broke; then what is left to print goes nowhere."""
    looking = select.poll()
    looking.register(1, 0)
    broken = any(event & select.POLLERR for _, event in looking.poll(0))
    if broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return broken


def search_path() -> str:
    """PATH for child processes: the commands of this environment come first, also where it is not activated."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def refuse_missing(*inputs: Path | None) -> None:
    """Raises UserError for the first file or folder that is not there; None is one that was not asked for."""
    for path in inputs:
        if path is not None and not path.exists():
            raise UserError(f"{path} is not there: correct the path, or bring it there first.")


@contextmanager
def importing() -> Iterator[None]:
    """For the imports that take seconds, once the arguments are known to be right.

    The garbage collector rests: it finds nothing in modules, and takes a third of the time that they need. Ctrl-C and
    SIGTERM end the process on the spot: nothing is begun, and no library is left half imported to complain about it.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _leave)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if collecting:
            gc.enable()


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(sys.stderr.fileno(), f"{INTERRUPTED}\n".encode())
    os._exit(130)
