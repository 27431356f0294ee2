"""What split and cross-conformal calibration promise by the number of good parts, and what judging by K models costs.

python -m benchmarks.calibration [--images 20]
python -m benchmarks.calibration --folder CATEGORY [--parts 40] [--rate 0.05] [--draws 5]

The images that are timed are noise of 512×512 pixels, the models untrained ones of the demo's settings: the time
depends on neither. With a folder, what becomes of a promise on its photographs.
"""

import argparse
from pathlib import Path

from pipelines.platform import command


def main() -> None:
    """Prints two tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="a category as MVTec AD lays it out")
    parser.add_argument("--parts", type=int, default=40)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--draws", type=int, default=5)
    args = parser.parse_args()
    # Not at the top: torch takes longer to load than arguments to be refused.
    from benchmarks.calibration import measure, real

    if args.folder is None:
        measure.run(args.images)
    else:
        real.run(args.folder, args.parts, args.rate, args.draws)


if __name__ == "__main__":
    command.run(main)
