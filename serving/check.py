"""Whether the service's model can be loaded, asked before Ray starts: python -m serving.check.

Reads settings (JSON) on stdin and answers `Checked` on stdout. A process of its own, so that the service's own holds no
second model, and nothing that loading one takes.
"""

import argparse
import sys
from threading import Lock

from pydantic import BaseModel

from inpformer.errors import UserError
from serving import children
from serving.settings import Settings


class Checked(BaseModel):
    """What came of it: `error` alone, or the `version` that would be served and what an operator should know of it."""

    error: str | None = None
    version: int = 0
    notices: list[str] = []


def check(settings: Settings) -> Checked:
    """Loads the model, as the service will."""
    # Imported only now: --help needs neither torch nor MLflow.
    from serving.loading import load_first
    from serving.registry import Registry

    try:
        served, problem = load_first(Registry(settings.tracking_uri), settings, Lock())
    except UserError as error:
        return Checked(error=str(error))
    notice = served.notice and f"version {served.version}: {served.notice}"
    return Checked(version=served.version, notices=[each for each in (problem, notice) if each])


def in_a_process(settings: Settings) -> Checked:
    """`check`, in a process that is gone afterwards, also where this one is interrupted."""
    with children.start(__name__) as child:
        try:
            answer, _ = child.communicate(settings.model_dump_json(exclude={"webhook_secret"}).encode())
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        return Checked(
            error=f"the process that loads the model ended with {child.returncode}: has this machine the memory for it?"
        )
    return Checked.model_validate_json(answer)


def main() -> None:
    """Answers once."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    answers = children.answers()
    answers.write(check(Settings.model_validate_json(sys.stdin.read())).model_dump_json().encode())
    answers.flush()


if __name__ == "__main__":
    main()
