"""What it costs to learn from pictures with defects: made and encoded once, or anew in each epoch.

python -m benchmarks.anomalies DATA [--images 64] [--rounds 3]

Epochs of INP-Former from the store, of INP-Former++ with its pictures from the store, and of INP-Former++ that makes
and encodes them meanwhile take the same optimiser steps and are run in turn, so that ratios hold on a machine whose
speed drifts.
"""

import argparse
from pathlib import Path

from pipelines.platform import command


def main() -> None:
    """Prints the times and their ratios, round by round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    # Not at the top: torch and timm take longer to load than arguments to be refused.
    from benchmarks.anomalies import measure

    measure.run(args)


if __name__ == "__main__":
    command.run(main)
