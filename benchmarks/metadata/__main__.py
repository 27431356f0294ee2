"""What a million images cost beside their pixels: time and memory of manifest and table, a made-up one of each.

python -m benchmarks.metadata [--images 1000000]
"""

import argparse

from pipelines.platform import command


def main() -> None:
    """Prints a line a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    args = parser.parse_args()
    # Not at the top: torch and pyarrow take longer to load than arguments to be refused.
    from benchmarks.metadata import measure

    measure.run(args.images)


if __name__ == "__main__":
    command.run(main)
