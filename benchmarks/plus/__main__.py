"""What each part of INP-Former++ is worth, beside nearest neighbours and INP-Former, and what ten real defects add.

python -m benchmarks.plus DATA --folder FOLDER [--seeds 1 2 3] [--steps 400]

Ten defective test images a category, and all test images of the same parts (--part, a regular expression over the
path), leave the test for all rows: some learn from them. Each finished row is a line of JSON in
FOLDER/results.jsonl, which a repeated call skips; the table is printed from all lines.
"""

import argparse
from pathlib import Path


def main() -> None:
    """Prints the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=400, help="gradient steps, at least, in whole epochs")
    parser.add_argument("--part")
    parser.add_argument("--share", type=int, default=1, help="one of so many training images")
    args = parser.parse_args()

    from benchmarks.plus.compare import run

    run(args)


if __name__ == "__main__":
    main()
