"""Stage manifest: takes stock of the images, once and completely; everything after it reads this table.

python -m pipelines.manifest --out MANIFEST.parquet

The images are in the folder manifest.data of params.yaml.
"""

import argparse
from pathlib import Path

from pipelines.manifest.settings import ManifestSettings
from pipelines.platform import command, params


def main() -> None:
    """Writes the manifest and says what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    command.refuse_missing(Path(params.read_section("manifest", ManifestSettings).data))
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.manifest.build import run

    run(args)


if __name__ == "__main__":
    command.run(main)
