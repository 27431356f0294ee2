"""Stage features: sends each view of a training image through the frozen encoder once and keeps what came out.

python -m pipelines.features --manifest MANIFEST.parquet --out FEATURES.json --pictures FOLDER

The features lie in the store (`features.store`), keyed by content; the output is a small index that says which. For a
method that learns from defects, pictures with some are made, drawn into FOLDER and encoded, too.
"""

import argparse
from pathlib import Path

from pipelines.platform import command, params


def main() -> None:
    """Fills the store and writes the index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--manifest", "--out", "--pictures"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()
    command.refuse_missing(args.manifest)
    params.check()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.features.run import run

    run(args)


if __name__ == "__main__":
    command.run(main)
