r"""Stage evaluate: what the calibrated detector is worth on the test images. Nothing earlier has seen them.

python -m pipelines.evaluate --manifest MANIFEST.parquet --linked LINKED.json --detector FOLDER \
    --evaluation EVALUATION.json --metrics METRICS.json --table METRICS.md --scores SCORES.csv --plots FOLDER
"""

import argparse
from pathlib import Path

from pipelines.platform import command, params


def main() -> None:
    """Writes metrics, scores and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--manifest", "--linked", "--detector", "--evaluation", "--metrics", "--table", "--scores", "--plots"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()
    command.refuse_missing(args.manifest, args.linked, args.detector)
    params.check()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.evaluate.test_images import run

    run(args)


if __name__ == "__main__":
    command.run(main)
