"""How every entry point of the pipeline ends: a sentence for a person and an exit code, never a traceback."""

import signal
import sys
from collections.abc import Callable

from inpformer.errors import StaleFeaturesError, UserError

# What to run: which command does it, only the pipeline knows.
HINTS: dict[type[UserError], str] = {StaleFeaturesError: " (`dvc repro --force --single-item features`)"}


def run(main: Callable[[], None]) -> None:
    """Calls `main`; exits 1 with the sentence of a UserError, 130 on Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}{HINTS.get(type(error), '')}")
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept, run the same command again to go on.", file=sys.stderr)
        sys.exit(130)
