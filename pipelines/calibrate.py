"""Stage calibrate: gives the trained detector its thresholds, from held-out normal images alone.

python -m pipelines.calibrate --manifest MANIFEST.parquet --model FOLDER --out FOLDER
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from inpformer.calibration import CalibrationSettings, Threshold, calibrate
from inpformer.detector import Detector, Prediction
from inpformer.transform import read_image
from pipelines import stage
from pipelines.features import best_device
from pipelines.manifest import Row, read_manifest
from pipelines.params import read_section

BATCH_SIZE = 16


def predict(
    detector: Detector, root: Path, rows: Sequence[Row], task: str
) -> Iterator[tuple[Sequence[Row], Prediction]]:
    """Runs the detector over the images of `rows`, a batch at a time, with a progress bar named `task`.

    Raises UserError naming an image that cannot be read.
    """
    with tqdm(total=len(rows), desc=task, unit="image", disable=None) as progress:
        for start in range(0, len(rows), BATCH_SIZE):
            part = rows[start : start + BATCH_SIZE]
            images = [read_image(root / row.path) for row in part]
            yield part, detector.predict(images, [row.category for row in part])
            progress.update(len(part))


def calibrated(
    detector: Detector, root: Path, rows: Sequence[Row], settings: CalibrationSettings
) -> dict[str, Threshold]:
    """The thresholds of the categories in `rows`, all of them held-out good images. Several images of one part, and
    copies, count once, with the highest score: the promise takes independent parts.

    Raises UserError for a category that the detector has no model for, and for what `calibrate` refuses.
    """
    scores: dict[str, dict[str, float]] = {row.category: {} for row in rows}
    for batch, prediction in predict(detector, root, rows, "calibrating"):
        for row, score in zip(batch, prediction.scores, strict=True):
            of_parts, part = scores[row.category], row.part or row.sha256
            of_parts[part] = max(float(score), of_parts.get(part, -math.inf))
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


def main() -> None:
    """Writes the calibrated detector and says what each threshold promises."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--manifest", "--model", "--out"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()
    settings = read_section("calibrate", CalibrationSettings)
    manifest = read_manifest(args.manifest)
    detector = Detector.load(args.model, device=best_device())
    detector.thresholds = calibrated(detector, manifest.root, manifest.split("val"), settings)
    with stage.written_whole(args.out) as folder:
        detector.save(folder)
    for category, threshold in sorted(detector.thresholds.items()):
        print(promise(category, threshold, settings))


if __name__ == "__main__":
    stage.run(main)
