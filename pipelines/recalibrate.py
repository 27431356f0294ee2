"""New thresholds for a registered version, without training: for another camera, light or line, from good images.

python -m pipelines.recalibrate champion --category metal --normals FOLDER

The result is a new version under @challenger; params.yaml (calibrate) says what is promised.
"""

import argparse
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from inpformer.calibration import CalibrationSettings, calibrate
from inpformer.detector import Detector
from inpformer.errors import UserError
from inpformer.layouts.sample import list_images
from pipelines import provenance, stage
from pipelines.calibrate import predict, promise
from pipelines.devices import best_device
from pipelines.params import read_section
from pipelines.register import RegisterSettings
from pipelines.tracking import CHALLENGER, Run, download_detector, find_version
from pipelines.weights import load_encoder

KEPT_TAGS = ("setting", "data.digest", "encoder.digest", "seed", "imported.from", "imported.sha256")


def score_normals(detector: Detector, images: Sequence[Path], category: str) -> list[float]:
    """The image scores of good images. Raises UserError naming one that cannot be read."""
    with tqdm(total=len(images), desc="calibrating", unit="image", disable=None) as progress:
        return [score for score, _ in predict(detector, images, [category] * len(images), progress)]


def check_category(detector: Detector, category: str) -> None:
    """Raises UserError for a category that the detector does not know: most likely a slip of the pen."""
    known = set(detector.thresholds) | set(detector.training.categories)
    if known and category not in known:
        raise UserError(f"--category is {category}: this detector knows {', '.join(sorted(known))}.")


def main() -> None:
    """Calibrates one category anew and registers the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="a version or an alias, such as champion")
    parser.add_argument("--category", required=True)
    parser.add_argument("--normals", type=Path, required=True, help="a folder of images of good parts, none trained on")
    parser.add_argument("--encoder-weights", help="where the encoder's weights lie, if not where they lay in training")
    args = parser.parse_args()
    settings = read_section("calibrate", CalibrationSettings)
    model_name = read_section("register", RegisterSettings).model_name
    # Copies count once: the promise takes independent parts.
    by_digest = {hashlib.sha256(path.read_bytes()).digest(): path for path in list_images(args.normals)}
    images = list(by_digest.values())
    if not images:
        raise UserError(f"--normals is {args.normals}: there are no images in it, give a folder of good parts.")
    source = find_version(model_name, args.version)
    with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
        fetched = download_detector(model_name, source.version, Path(folder))
        detector = Detector.load(fetched, args.encoder_weights, best_device(), load_encoder)
        check_category(detector, args.category)
        threshold = calibrate({args.category: score_normals(detector, images, args.category)}, settings)[args.category]
        detector.thresholds[args.category] = threshold
        detector.save(Path(folder) / "recalibrated")
        normals = hashlib.sha256(b"".join(by_digest)).hexdigest()
        tags = {
            # What was measured, and hashed, belongs to the old thresholds.
            **{k: v for k, v in source.tags.items() if k in KEPT_TAGS},
            **provenance.tags(),
            "calibrated": "yes",
            "recalibrated.from": source.version,
            "recalibrated.category": args.category,
            "recalibrated.images": str(len(images)),
            "recalibrated.digest": normals,
        }
        key = f"recalibrate {source.version} {args.category} {normals} {settings}"
        run = Run.open(key, f"recalibrate-{args.category}", {"calibrate": settings}, tags)
        version = run.register(Path(folder) / "recalibrated", model_name, tags)
        run.end("FINISHED")
    print(promise(args.category, threshold, settings))
    print(f"{model_name} version {version} is @{CHALLENGER}; to let it serve: python -m pipelines.promote")


if __name__ == "__main__":
    stage.run(main)
