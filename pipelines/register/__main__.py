r"""Stage register: the calibrated detector becomes a version in MLflow's registry, under @challenger.

python -m pipelines.register --manifest MANIFEST.parquet --detector FOLDER --scores SCORES.csv --run RUN.json \
    --metrics METRICS.json --out VERSION.json
"""

import argparse
from pathlib import Path

from pipelines.platform import command


def main() -> None:
    """Registers, unless this run has done so before, and says under which number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--manifest", "--detector", "--scores", "--run", "--metrics", "--out"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    from pipelines.register.version import run

    run(args)


if __name__ == "__main__":
    command.run(main)
