"""New thresholds for a registered version, without training: for another camera, light or line, from good images.

python -m pipelines.recalibrate champion --category metal --normals FOLDER

Images of one part, and copies, count once, with the highest score. Images that the model is known to have been trained
on are refused. The result is a new version under @challenger; params.yaml (calibrate) says what is promised.
"""

import argparse
from pathlib import Path

from pipelines.platform import command


def main() -> None:
    """Calibrates one category anew and registers the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="a version or an alias, such as champion")
    parser.add_argument("--category", required=True)
    parser.add_argument("--normals", type=Path, required=True, help="a folder of images of good parts, none trained on")
    parser.add_argument(
        "--part", help="regular expression over the names whose first group names the part (default: manifest.part)"
    )
    parser.add_argument(
        "--unseen", action="store_true", help="says that the model was not trained on them, where nothing records it"
    )
    parser.add_argument("--encoder-weights", help="where the encoder's weights lie, if not where they lay in training")
    args = parser.parse_args()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    from pipelines.recalibrate.version import run

    run(args)


if __name__ == "__main__":
    command.run(main)
