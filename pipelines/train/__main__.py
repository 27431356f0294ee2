"""Stage train: the method on Ray, from the feature store, under one MLflow run.

python -m pipelines.train --manifest MANIFEST.parquet --features FEATURES.json \
    --model FOLDER --run RUN.json --loss LOSS.csv [--winner WINNER.json] [--anomalies FOLDER] [--linked LINKED.json]

Interrupted, it goes on from its last checkpoint when called again with the same data and parameters.
"""

import argparse
from pathlib import Path

from pipelines.platform import command, params


def main() -> None:
    """Trains, and leaves the model, the record of the MLflow run and the losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--manifest", "--features", "--model", "--run", "--loss"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--anomalies", type=Path, help="the pictures with defects that features drew, for MLflow")
    parser.add_argument("--linked", type=Path, help="the near duplicates that the gate found, for calibrate.folds")
    parser.add_argument("--winner", type=Path, help="what the stage tune found")
    args = parser.parse_args()
    command.refuse_missing(args.manifest, args.features, args.winner, args.anomalies, args.linked)
    params.check()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.train.fit import run

    run(args)


if __name__ == "__main__":
    command.run(main)
