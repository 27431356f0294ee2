r"""Stage register: the calibrated detector becomes a version in MLflow's registry, under @challenger.

Never taken from DVC's cache: what was asked for last is @challenger, also where nothing had to be computed for it.

python -m pipelines.register --manifest MANIFEST.parquet --features FEATURES.json --model FOLDER --detector FOLDER \
    --run RUN.json --gate FOLDER --findings FINDINGS.json --linked LINKED.json --held-out SCORES.csv \
    --outliers THRESHOLDS.png --evaluation EVALUATION.json --table METRICS.md --scores SCORES.csv \
    --plots FOLDER --out VERSION.json
"""

import argparse
from pathlib import Path

from pipelines.platform import command, params

INPUTS = ("manifest", "features", "model", "detector", "run")
EVIDENCE = ("gate", "findings", "linked", "held-out", "outliers", "evaluation", "table", "scores", "plots")


def main() -> None:
    """Registers a detector that has no version yet, and says which version is @challenger."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in (*INPUTS, *EVIDENCE, "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    command.refuse_missing(*(getattr(args, name.replace("-", "_")) for name in (*INPUTS, *EVIDENCE)))
    params.check()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.register.version import run

    run(args)


if __name__ == "__main__":
    command.run(main)
