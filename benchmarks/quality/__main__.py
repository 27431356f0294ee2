"""Does INP-Former find more than nearest-neighbour search does in the very same features?

python -m benchmarks.quality ../shared/data/magnetic_tile [--epochs N] [--store FOLDER]
"""

import argparse
import tempfile
from pathlib import Path

from pipelines.platform import command


def main() -> None:
    """Encodes what the store lacks, trains, searches, and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a category in MVTec-AD layout")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()) / "inpformer-quality")
    args = parser.parse_args()
    command.refuse_missing(args.data)
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from benchmarks.quality.compare import run

    run(args)


if __name__ == "__main__":
    command.run(main)
