"""The record of who put which version on the line, and why: checked, shown, exported, asked.

python -m pipelines.audit verify                     # any entry or file of a version that is not as it was written
python -m pipelines.audit verify --file FILE         # an export, and that MLflow still has all that is in it
python -m pipelines.audit since --time 2026-11-01    # which version was champion then, and what was done since
python -m pipelines.audit export FILE                # a line an entry, JSON
python -m pipelines.audit decision IMAGE             # which version, threshold, commit and data decided on it
                                                     # IMAGE: a file, its sha256, its path in the data, or a part

Times are ISO 8601 with a zone, 2026-11-01T14:00:00+01:00, or a date alone, from its first moment in UTC.
"""

import argparse
from datetime import UTC, date, datetime, time
from pathlib import Path

from pipelines.platform import command, params


def main() -> None:
    """Exits 1 if something is not as it was written."""
    args = arguments()
    params.check()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.audit.commands import run

    run(args)


def arguments() -> argparse.Namespace:
    """What was asked for: `what`, and its arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    verify = what.add_parser("verify", help="is the record, and each version's files, as they were written?")
    verify.add_argument("--file", type=Path, help="an export to check, against MLflow too")
    since = what.add_parser("since", help="the champion at a time, and what was done since")
    since.add_argument("--time", type=moment, required=True)
    export = what.add_parser("export", help="the record as a file, a JSON object a line")
    export.add_argument("file", type=Path)
    decision = what.add_parser("decision", help="which version decided on an image, and by what")
    decision.add_argument("image", help="a file, its sha256, its path in the data, or the part that it shows")
    decision.add_argument("--time", type=moment, help="default: now")
    decision.add_argument("--category", help="for an image that is not in the version's evidence")
    args = parser.parse_args()
    if args.what == "verify" and args.file is not None:
        command.refuse_missing(args.file)
    return args


def moment(text: str) -> datetime:
    """A time with a zone, or the first moment of a day in UTC."""
    try:
        return datetime.combine(date.fromisoformat(text), time(tzinfo=UTC))
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(
        f"{text!r} is no ISO time with a zone (2026-11-01T14:00:00+01:00) and no date (2026-11-01)"
    )


if __name__ == "__main__":
    command.run(main)
