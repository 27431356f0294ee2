"""Which method suits the product: trains each with several seeds, judges all on the same images, and writes a page.

python -m pipelines.compare --methods inp_former nearest grnr --seeds 3

It goes on from the stages manifest, gate and features (`dvc repro features`). The methods' settings are those of
params.yaml (`train.<method>`), the promise that of `calibrate`. Interrupted, the next call goes on where it stood: what
is trained and judged is kept, and so it is for other comparisons of the same code, data and settings.
"""

import argparse
from pathlib import Path

from pipelines.compare.asked import ask, refuse_unready
from pipelines.platform import command


def main() -> None:
    """Trains what is missing, judges, and leaves the page and its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", required=True, metavar="METHOD")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each method (default: 3)")
    for name, place in (
        ("--manifest", "artifacts/manifest.parquet"),
        ("--features", "artifacts/features.json"),
        ("--linked", "artifacts/linked.json"),
    ):
        parser.add_argument(name, type=Path, default=Path(place), help=f"what its stage left (default: {place})")
    parser.add_argument("--out", type=Path, default=Path("reports/compare"), help="default: reports/compare")
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path("artifacts/compare"),
        help="where trainings and judgements are kept (default: artifacts/compare)",
    )
    args = parser.parse_args()
    refuse_unready(args.manifest, args.features, args.linked)
    asked = ask(args.methods, args.seeds, args.manifest)
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.compare.run import run

    run(asked, args)


if __name__ == "__main__":
    command.run(main)
