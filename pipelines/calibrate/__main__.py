r"""Stage calibrate: gives the trained detector its thresholds, from held-out normal images alone.

python -m pipelines.calibrate --manifest MANIFEST.parquet --linked LINKED.json --model FOLDER --out FOLDER \
    --scores SCORES.csv --outliers THRESHOLDS.png
"""

import argparse
from pathlib import Path

from pipelines.platform import command, params


def main() -> None:
    """Writes the calibrated detector and says what each threshold promises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--manifest", "--linked", "--model", "--out", "--scores", "--outliers"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()
    command.refuse_missing(args.manifest, args.linked, args.model)
    params.check()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.calibrate.thresholds import run

    run(args)


if __name__ == "__main__":
    command.run(main)
