"""Stage gate: looks for what would spoil a model or its thresholds, before any work is done, and shows it.

python -m pipelines.gate --manifest MANIFEST.parquet --report FOLDER --findings FINDINGS.json --linked LINKED.json

Errors stop the pipeline, warnings do not. It reads all images, test images too, for copies and faults of their own:
nothing is learnt or chosen by them. The report is FOLDER/index.html; FINDINGS.json holds the same for machines,
LINKED.json which good images show one part, so that rates count it once.
"""

import argparse
from pathlib import Path

from pipelines.platform import command, params


def main() -> None:
    """Writes report and findings, then stops the pipeline if there are errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--findings", type=Path, required=True)
    parser.add_argument("--linked", type=Path, required=True)
    args = parser.parse_args()
    command.refuse_missing(args.manifest)
    params.check()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.gate.inspect import run

    run(args)


if __name__ == "__main__":
    command.run(main)
