"""What the feature store saves: an epoch that reads features against one that encodes its images.

python -m benchmarks.epoch FOLDER [--images 64] [--encoder NAME --resize 448 --crop 392]

FOLDER holds training images, directly or below it. Both kinds of epoch take the same optimiser steps and are run in
turn, so that the ratio holds on a machine whose speed drifts. A ViT is timed with random weights: its speed does not
depend on them.
"""

import argparse
from pathlib import Path

from inpformer.encoders.settings import BUNDLED
from pipelines.platform import command


def main() -> None:
    """Prints both times and their ratio, pair by pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--encoder", default=BUNDLED)
    parser.add_argument("--resize", type=int, default=448)
    parser.add_argument("--crop", type=int, default=392)
    args = parser.parse_args()
    command.refuse_missing(args.folder)
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from benchmarks.epoch.compare import run

    run(args)


if __name__ == "__main__":
    command.run(main)
