"""Stage tune: looks for better parameters of train, on held-out good images alone. With tune.trials 0 it does nothing.

python -m pipelines.tune --manifest MANIFEST.parquet --features FEATURES.json --out TUNED.json --report FOLDER

Interrupted, it goes on where it stood when called again with the same data and parameters.
"""

import argparse
from pathlib import Path

from pipelines.platform import command, files
from pipelines.platform.params import read_section
from pipelines.tune.settings import TuneSettings
from pipelines.tune.table import PICTURES, TABLE, write_table
from pipelines.tune.winner import write_winner


def main() -> None:
    """Leaves the winner's values and the report: no values and an empty table where nothing is searched."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--manifest", "--features", "--out", "--report"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()
    command.refuse_missing(args.manifest, args.features)
    settings = read_section("tune", TuneSettings)
    if settings.trials:
        # Not at the top: torch, Ray, Optuna and MLflow take longer to load than all that is done without a search.
        with command.importing():
            from pipelines.tune import search

        search.run(settings, args.manifest, args.features, args.out, args.report)
        return
    with files.written_whole(args.report) as folder:
        (folder / PICTURES).mkdir(parents=True)  # empty: so `dvc plots` finds what it looks for
        write_table([], folder / TABLE)
    write_winner(args.out, None, {})
    print("tune.trials is 0: nothing is searched, train takes the values of params.yaml")


if __name__ == "__main__":
    command.run(main)
