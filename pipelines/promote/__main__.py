"""Promotion: moves @champion, the version that serves, to another version; the old one becomes @previous.

python -m pipelines.promote                    # weighs the challenger; it becomes champion if the gate allows it
python -m pipelines.promote 7                  # any version
python -m pipelines.promote --check            # weighs alone: exit code 0 or 1, JSON on stdout
python -m pipelines.promote --approve          # a second person, where promote.approval asks for one
python -m pipelines.promote --force "reason"   # without the gate; recorded
python -m pipelines.promote rollback           # back to @previous, or to the version that follows; without the gate

Everything is recorded in MLflow: python -m pipelines.audit.
"""

import argparse

from pipelines.platform import command, params
from pipelines.record.entry import checked_reason

ROLLBACK = "rollback"


def main() -> None:
    """Promotes and says what serves now."""
    args = arguments()
    params.check()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.promote.commands import run

    run(args)


def arguments() -> argparse.Namespace:
    """What was asked for: `version` (None by default) and one of `check`, `approve`, `force`, `rollback`, or none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="VERSION", help="[rollback] a version or an alias")
    parser.add_argument("--check", action="store_true", help="ask the gate and move nothing")
    parser.add_argument("--approve", action="store_true", help="approve the open proposal of somebody else")
    parser.add_argument("--force", metavar="REASON", help="do not ask the gate, nor a second person")
    parser.add_argument(
        "--accept-broken-promise",
        action="store_true",
        help="promote also where the false-alarm rate did not hold on the test images; noted on the version",
    )
    args = parser.parse_args()
    args.rollback = args.words[:1] == [ROLLBACK]
    words = args.words[1:] if args.rollback else args.words
    if len(words) > 1:
        parser.error(f"one version at a time, not {', '.join(words)}")
    args.version = words[0] if words else None
    asked = {
        ROLLBACK: args.rollback,
        "--check": args.check,
        "--approve": args.approve,
        "--force": args.force is not None,
        "--accept-broken-promise": args.accept_broken_promise,
    }
    if len(both := [name for name, given in asked.items() if given]) > 1:
        parser.error(f"{both[0]} and {both[1]} exclude each other")
    if args.force is not None:
        args.force = checked_reason(args.force)
    return args


if __name__ == "__main__":
    command.run(main)
