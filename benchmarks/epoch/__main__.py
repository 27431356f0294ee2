"""What the feature store saves: an epoch that reads features against one that encodes its images.

python -m benchmarks.epoch FOLDER [--images 64] [--encoder NAME --resize 448 --crop 392]

FOLDER holds training images, directly or below it. Epochs that encode, that read all levels from a store and that read
a store of what the method wants take the same optimiser steps and are run in turn, so that ratios hold on a machine
whose speed drifts. A ViT is timed with random weights: its speed does not depend on them.
"""

import argparse
from pathlib import Path

from inpformer.encoders.settings import BUNDLED
from pipelines.platform import command


def main() -> None:
    """Prints the times and their ratios, round by round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoder", default=BUNDLED)
    parser.add_argument("--resize", type=int, default=448)
    parser.add_argument("--crop", type=int, default=392)
    args = parser.parse_args()
    # Not at the top: torch and timm take longer to load than arguments to be refused.
    from benchmarks.epoch import measure

    measure.run(args)


if __name__ == "__main__":
    command.run(main)
