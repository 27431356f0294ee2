"""What a search costs: its trials, from stored features, against one training that encodes its images every epoch.

python -m benchmarks.tuning FOLDER [--train-images 40] [--epochs 16] [--trials 16]

Makes the demo's data in FOLDER and runs manifest and features. Then `python -m pipelines.tune` is timed from start to
end: imports, start of Ray, judged pictures, trials, plots. The other side is timed in this process: one training as the
reference does it, whose batches are read, decoded and encoded in each epoch, on all cores; without validation and
without any start-up. Some of its epochs are timed, before and after the search, and their mean is taken for all. Both
have the same number of epochs, much fewer than a real one has, so that start-up weighs more here. It is stated apart:
the same command with one trial of one epoch, less what this trial took itself.
"""

import argparse
from pathlib import Path

from pipelines.platform import command


def main() -> None:
    """Prints both sides, their ratio, and what start-up is of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train-images", type=int, default=40, help="a category, of three")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--trials", type=int, default=16)
    args = parser.parse_args()
    # Not at the top: torch, Ray and MLflow take longer to load than arguments to be refused.
    from benchmarks.tuning import measure

    measure.run(args.folder.resolve(), args.train_images, args.epochs, args.trials)


if __name__ == "__main__":
    command.run(main)
