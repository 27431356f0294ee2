"""What the data gate costs an image, and what it finds.

python -m benchmarks.gate cost [--images 12000] [--categories 3]
python -m benchmarks.gate suspects --demo data/demo [--tiles ../shared/data/magnetic_tile]
python -m benchmarks.gate near_duplicates [--tiles ../shared/data/magnetic_tile] [--folder data/demo/board ...]

`cost` runs the look alone, and with it each check that looks at pictures, in a process of its own on made-up images of
32 pixels: a quarter of them, then all; what an image costs is what the others add. `suspects` plants the defective test
images among the good training images, three of each kind at a time. `near_duplicates` counts pairs of the magnetic
tiles by the distance of their frame numbers, finds planted copies of the good pictures in folders, and looks at
stand-ins for parts that are photographed in several places.
"""

import argparse
from pathlib import Path


def main() -> None:
    """Prints what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cost", "suspects", "near_duplicates"))
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--categories", type=int, default=3)
    parser.add_argument("--demo", type=Path)
    parser.add_argument("--tiles", type=Path)
    parser.add_argument("--folder", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    from benchmarks.gate import measure

    measure.run(args)


if __name__ == "__main__":
    main()
