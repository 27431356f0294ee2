"""What `python -m pipelines.promote` does, once its arguments are known to be right."""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout

from inpformer.errors import UserError
from pipelines.platform.aliases import CHALLENGER, CHAMPION, PREVIOUS
from pipelines.platform.params import read_section
from pipelines.promote.approval import approve
from pipelines.promote.promotion import check, force, promote
from pipelines.promote.rollback import rollback
from pipelines.promote.settings import PromoteSettings
from pipelines.record.steps import State
from pipelines.register.settings import RegisterSettings


def run(args: Namespace) -> None:
    """Promotes, or what else was asked for, and says which version serves."""
    model_name = read_section("register", RegisterSettings).model_name
    settings = read_section("promote", PromoteSettings)
    wanted = args.version or CHALLENGER
    if args.check:
        _check(model_name, wanted, settings)
        return
    if args.rollback:
        state = rollback(model_name, args.version, settings)
    elif args.approve:
        state = approve(model_name, args.version, settings)
    elif args.force is not None:
        state = force(model_name, wanted, settings, args.force)
    else:
        from pipelines.promote.gate import weigh  # only here: it needs the models, and takes seconds

        state = promote(model_name, wanted, settings, weigh, args.accept_broken_promise)
    print(says(model_name, state))


def says(model_name: str, state: State) -> str:
    """Which version serves, and the way back."""
    serving = f"version {state.champion} is @{CHAMPION}" if state.champion else f"no version is @{CHAMPION}"
    return f"{model_name} {serving}" + (f", version {state.previous} is @{PREVIOUS}" if state.previous else "")


def _check(model_name: str, wanted: str, settings: PromoteSettings) -> None:
    from pipelines.promote.gate import weigh

    with _stdout_for_json() as write:
        try:
            result = check(model_name, wanted, settings, weigh)
        except UserError as error:  # nothing could be weighed: whoever reads the answer is to read why
            write(json.dumps({"model": model_name, "allowed": False, "why": str(error), "verdict": None}, indent=2))
            raise
        write(json.dumps(result, indent=2))
    if not result["allowed"]:
        sys.exit(1)


@contextmanager
def _stdout_for_json() -> Iterator[Callable[[str], None]]:
    """Lets everything that is printed inside, by child processes too, go to stderr; yields what prints to stdout."""
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(real, "w", closefd=False) as out, redirect_stdout(sys.stderr):
            yield lambda text: print(text, file=out)
    finally:
        sys.stdout.flush()
        os.dup2(real, 1)
        os.close(real)
