"""Gives the trained detector its thresholds, from held-out normal images alone."""

import math
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from inpformer.images.transform import read_image
from inpformer.judging.calibration import Threshold, calibrate
from inpformer.judging.detector import Detector
from inpformer.judging.settings import CalibrationSettings
from pipelines.manifest.table import Row, read_manifest
from pipelines.platform import files
from pipelines.platform.devices import best_device
from pipelines.platform.params import read_section
from pipelines.platform.weights import load_encoder

BATCH_SIZE = 16


def predict(
    detector: Detector, images: Sequence[Path], categories: Sequence[str], progress: tqdm
) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """The score and the map of each image file, which is read and judged a batch at a time; `categories` names each
    one's.

    Raises UserError naming an image that cannot be read.
    """
    for start in range(0, len(images), BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        prediction = detector.predict([read_image(path) for path in images[batch]], categories[batch])
        yield from zip(prediction.scores.tolist(), prediction.maps, strict=True)
        progress.update(len(prediction.maps))


def calibrated(
    detector: Detector, root: Path, rows: Sequence[Row], settings: CalibrationSettings
) -> dict[str, Threshold]:
    """The thresholds of the categories in `rows`, all of them held-out good images. Several images of one part, and
    copies, count once, with the highest score: the promise takes independent parts.

    Raises UserError for a category that the detector has no model for, and for what `calibrate` refuses.
    """
    scores: dict[str, dict[str, float]] = {row.category: {} for row in rows}
    with tqdm(total=len(rows), desc="calibrating", unit="image", disable=None) as progress:
        judged = predict(detector, [root / row.path for row in rows], [row.category for row in rows], progress)
        for row, (score, _) in zip(rows, judged, strict=True):
            of_parts, part = scores[row.category], row.part or row.sha256
            of_parts[part] = max(score, of_parts.get(part, -math.inf))
    return calibrate({category: list(of_parts.values()) for category, of_parts in scores.items()}, settings)


def promise(category: str, threshold: Threshold, settings: CalibrationSettings) -> str:
    """What a threshold is worth, in a sentence or two."""

    def sure(confidence: float | None) -> str:
        return "on average" if confidence is None else f"with {confidence:g} confidence"

    text = (
        f"{category}: FAIL above {threshold.threshold:.4f}, REVIEW above {threshold.review_threshold:.4f}, from "
        f"{len(threshold.scores)} good images: false alarms at most {threshold.false_alarm_rate:.2%} "
        f"{sure(threshold.confidence)}"
    )
    if threshold.missing_images:
        text += (
            f"\n  this is NOT the {settings.false_alarm_rate:.2%} asked for: it takes {threshold.missing_images} more "
            "held-out good images"
        )
    return text


def run(args: Namespace) -> None:
    """Writes the calibrated detector and says what each threshold promises."""
    settings = read_section("calibrate", CalibrationSettings)
    manifest = read_manifest(args.manifest)
    detector = Detector.load(args.model, device=best_device(), load=load_encoder)
    detector.thresholds = calibrated(detector, manifest.root, list(manifest.held_out), settings)
    with files.written_whole(args.out) as folder:
        detector.save(folder)
    for category, threshold in sorted(detector.thresholds.items()):
        print(promise(category, threshold, settings))
