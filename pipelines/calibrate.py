"""Stage calibrate: gives the trained detector its thresholds, from held-out normal images alone.

python -m pipelines.calibrate --manifest MANIFEST.parquet --model FOLDER --out FOLDER
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from inpformer.calibration import CalibrationSettings, calibrate
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
            yield part, detector.predict([read_image(root / row.path) for row in part])
            progress.update(len(part))


def main() -> None:
    """Writes the calibrated detector and says what each threshold promises."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--manifest", "--model", "--out"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()
    settings = read_section("calibrate", CalibrationSettings)
    manifest = read_manifest(args.manifest)
    detector = Detector.load(args.model, device=best_device())
    rows = manifest.split("val")
    scores: dict[str, list[float]] = {row.category: [] for row in rows}
    for part, prediction in predict(detector, manifest.root, rows, "calibrating"):
        for row, score in zip(part, prediction.scores, strict=True):
            scores[row.category].append(float(score))
    detector.thresholds = calibrate(scores, settings)
    with stage.written_whole(args.out) as folder:
        detector.save(folder)
    for category, t in sorted(detector.thresholds.items()):
        print(
            f"{category}: threshold {t.threshold:.4f} from {t.images} images, "
            f"false alarms at most {t.false_alarm_rate:.1%}"
        )
        if t.false_alarm_rate > settings.false_alarm_rate:
            needed = round(1 / settings.false_alarm_rate) - 1
            print(f"  {settings.false_alarm_rate:.1%} was asked for: that takes at least {needed} held-out good images")


if __name__ == "__main__":
    stage.run(main)
