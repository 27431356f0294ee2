"""What the stages take of a machine: the memory of `evaluate`, and how fast `features` has its pictures decoded.

python -m benchmarks.stages evaluate [--images 2000 8000] [--folder FOLDER]
python -m benchmarks.stages features [--images 64] [--side 2000] [--format JPEG]

`evaluate` feeds made-up maps of 256×256 with their masks, one in three with a defect, to what measures a category, in
a process of its own for each number of images; FOLDER is where its temporary files go. `features` encodes made-up
pictures with the bundled encoder, which are decoded in several numbers of threads and processes, each twice, in turn.
"""

import argparse
from pathlib import Path


def main() -> None:
    """Prints what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("evaluate", "features"))
    parser.add_argument("--images", type=int, nargs="*")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--side", type=int, default=2000)
    parser.add_argument("--format", choices=("JPEG", "PNG"), default="JPEG")
    args = parser.parse_args()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    if args.what == "evaluate":
        from benchmarks.stages import memory

        memory.run(args.images or [2000, 8000], args.folder)
    else:
        from benchmarks.stages import decoding

        decoding.run(*(args.images or [64]), args.side, args.format)


if __name__ == "__main__":
    main()
