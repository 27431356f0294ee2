"""Stage weights: records the content of the weights that params.yaml names by path, so that other content is noticed.

python -m pipelines.weights --encoder ENCODER.json --detector DETECTOR.json

DVC calls it every time, as no dependency can be a path that may also be "hub" or null; what depends on the two records
runs again only if they change.
"""

import argparse
from pathlib import Path

from pipelines.platform import command


def main() -> None:
    """Writes a record of features.encoder.weights and one of train.weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--encoder", "--detector"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()
    # Only now: what the work needs takes time to import, and a mistyped argument should not.
    from pipelines.weights.record import run

    run(args)


if __name__ == "__main__":
    command.run(main)
