"""How often a picture of another product, a dark, blurred or shifted one is doubted, and how often a good one.

python -m benchmarks.plausibility FOLDER [FOLDER …] [--known 10 20 40] [--images 40]

The folders hold products in the layout of MVTec AD (or another that `manifest` knows); each category is asked about the
pictures of all others. The encoder is that of params.yaml, and nothing is trained.
"""

import argparse
from pathlib import Path

from pipelines.platform import command


def main() -> None:
    """Prints the tables, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument(
        "--known", nargs="+", type=int, default=[10, 20, 40], help="good pictures that a look is held against"
    )
    parser.add_argument("--images", type=int, default=40, help="a category and kind, at most (default: 40)")
    args = parser.parse_args()
    command.refuse_missing(*args.folders)
    # Not at the top: torch and timm take longer to load than arguments to be refused.
    from benchmarks.plausibility.measure import run

    run(args.folders, args.known, args.images)


if __name__ == "__main__":
    command.run(main)
