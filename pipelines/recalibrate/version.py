"""New thresholds for a registered version, without training: for another camera, light or line, from good images."""

import hashlib
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from inpformer.errors import UserError
from inpformer.images.layouts.sample import list_images
from inpformer.judging.calibration import calibrate
from inpformer.judging.detector import Detector
from inpformer.judging.settings import CalibrationSettings
from pipelines.calibrate.thresholds import predict, promise
from pipelines.platform import provenance
from pipelines.platform.aliases import CHALLENGER
from pipelines.platform.devices import best_device
from pipelines.platform.params import read_section
from pipelines.platform.registry import Evidence, download_detector, find_version, register_alone
from pipelines.platform.weights import load_encoder
from pipelines.register.settings import RegisterSettings

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


def run(args: Namespace) -> None:
    """Calibrates one category anew and registers the result."""
    settings = read_section("calibrate", CalibrationSettings)
    model_name = read_section("register", RegisterSettings).model_name
    # Copies count once: the promise takes independent parts.
    by_digest = {hashlib.sha256(path.read_bytes()).digest(): path for path in list_images(args.normals)}
    images = list(by_digest.values())
    if not images:
        raise UserError(f"--normals is {args.normals}: there are no images in it, give a folder of good parts.")
    source = find_version(model_name, args.version)
    with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
        fetched, recalibrated = (
            download_detector(model_name, source.number, Path(folder)),
            Path(folder) / "recalibrated",
        )
        detector = Detector.load(fetched, args.encoder_weights, best_device(), load_encoder)
        check_category(detector, args.category)
        threshold = calibrate({args.category: score_normals(detector, images, args.category)}, settings)[args.category]
        detector.thresholds[args.category] = threshold
        detector.save(recalibrated)
        normals = hashlib.sha256(b"".join(by_digest)).hexdigest()
        promised = promise(args.category, threshold, settings)
        tags = {
            # What was measured, and hashed, belongs to the old thresholds.
            **{k: v for k, v in source.tags.items() if k in KEPT_TAGS},
            **provenance.code_tags(),
            "recalibrated.from": source.number,
            "recalibrated.category": args.category,
            "recalibrated.images": str(len(images)),
            "recalibrated.digest": normals,
        }
        description = "\n".join(
            [
                f"version {source.number} with new thresholds from {args.normals}, not measured on test images",
                promised,
                f"{source.tags.get('setting', 'no setting')}, data {source.tags.get('data.digest', 'unknown')[:12]}",
                provenance.code(),
            ]
        )
        key = f"recalibrate {source.number} {args.category} {normals} {settings}"
        name = f"recalibrate-{args.category}"
        version = register_alone(recalibrated, model_name, key, name, Evidence(description, tags))
    print(promised)
    print(f"{model_name} version {version} is @{CHALLENGER}; to let it serve: python -m pipelines.promote")
