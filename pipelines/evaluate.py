r"""Stage evaluate: what the calibrated detector is worth on the test images. Nothing earlier has seen them.

python -m pipelines.evaluate --manifest MANIFEST.parquet --detector FOLDER --run RUN.json \
    --metrics METRICS.json --scores SCORES.csv --plots FOLDER
"""

import argparse
import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpformer.detector import Detector
from inpformer.metrics import image_metrics, precision_recall_curve, roc_curve
from inpformer.pixel_metrics import pixel_metrics
from inpformer.settings import require
from inpformer.transform import read_image
from pipelines import pictures, stage
from pipelines.calibrate import predict
from pipelines.features import best_device
from pipelines.manifest import Manifest, Row, read_manifest
from pipelines.params import read_section
from pipelines.train import read_run


@dataclass(frozen=True)
class EvaluateSettings:
    """`gallery` is how many of the worst misses are shown."""

    gallery: int = 12

    def __post_init__(self) -> None:
        require(1 <= self.gallery <= 100, "gallery", self.gallery, "between 1 and 100")


@dataclass(frozen=True)
class Judged:
    """A test image, its score [float], its map [256, 256] and its true mask [256, 256]."""

    row: Row
    score: float
    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_]

    @property
    def masked_right(self) -> bool:
        """Whether pixel metrics may use it: an anomalous image with an empty mask says nothing of its pixels."""
        return not self.row.label or self.row.mask_pixels > 0


def judge(manifest: Manifest, detector: Detector) -> list[Judged]:
    """Scores every test image. Raises UserError naming an image or mask that cannot be read."""
    judged = []
    for part, prediction in predict(detector, manifest.root, manifest.split("test"), "evaluating"):
        for row, score, anomaly_map in zip(part, prediction.scores, prediction.maps, strict=True):
            judged.append(Judged(row, float(score), anomaly_map, _read_mask(manifest.root, row, detector)))
    return judged


def _read_mask(root: Path, row: Row, detector: Detector) -> NDArray[np.bool_]:
    transform = detector.encoder.transform
    mask = read_image(root / row.mask) if row.mask else Image.new("L", (row.width, row.height))
    return transform.mask(mask)


def measure(judged: list[Judged], threshold: float) -> dict[str, float]:
    """The metrics of one category by name; rates are shares of its test images at its threshold."""
    scores, labels = _scores(judged), _labels(judged)
    usable = [j for j in judged if j.masked_right]
    image = image_metrics(scores, labels)
    pixel = pixel_metrics(np.stack([j.anomaly_map for j in usable]), np.stack([j.mask for j in usable]))
    failed = scores > threshold
    return {
        **{f"image_{name}": value for name, value in asdict(image).items()},
        **{f"pixel_{name}": value for name, value in asdict(pixel).items() if name != "aupro"},
        "aupro": pixel.aupro,
        "false_alarm_rate": float(failed[labels == 0].mean()),
        "miss_rate": float((~failed)[labels == 1].mean()),
    }


def _scores(judged: list[Judged]) -> NDArray[np.float32]:
    return np.array([j.score for j in judged], np.float32)


def _labels(judged: list[Judged]) -> NDArray[np.int64]:
    return np.array([j.row.label for j in judged], np.int64)


def worst(judged: list[Judged], detector: Detector, count: int) -> list[Judged]:
    """The images on the wrong side of their threshold, farthest first, then the narrowest right ones."""

    def margin(j: Judged) -> float:
        ratio = j.score / detector.thresholds[j.row.category].threshold - 1
        return ratio if j.row.label else -ratio

    return sorted(judged, key=margin)[:count]


def write_curves(categories: dict[str, pictures.Scores], folder: Path) -> None:
    """The points of the ROC and precision-recall curves, for `dvc plots`."""
    tables: dict[str, tuple[tuple[str, str], list[tuple[str, float, float]]]] = {
        "roc": (("fpr", "tpr"), []),
        "precision_recall": (("recall", "precision"), []),
    }
    for name, c in categories.items():
        roc, pr = roc_curve(c.scores, c.labels), precision_recall_curve(c.scores, c.labels)
        tables["roc"][1].extend((name, float(x), float(y)) for x, y in zip(roc.fpr, roc.tpr, strict=True))
        tables["precision_recall"][1].extend(
            (name, float(x), float(y)) for x, y in zip(pr.recall, pr.precision, strict=True)
        )
    for name, (axes, points) in tables.items():
        with (folder / f"{name}.csv").open("w", newline="") as f:
            writer = csv.writer(f)
            writer.writerow(("category", *axes))
            writer.writerows(points)


def write_scores(judged: list[Judged], detector: Detector, file: Path) -> None:
    """A line a test image: what was decided and what is true."""
    with stage.written_whole(file) as temporary, temporary.open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(("path", "category", "defect", "label", "score", "threshold", "decision"))
        for j in judged:
            threshold = detector.thresholds[j.row.category].threshold
            decision = "FAIL" if j.score > threshold else "PASS"
            writer.writerow((j.row.path, j.row.category, j.row.defect, j.row.label, j.score, threshold, decision))


def draw(
    judged: list[Judged], manifest: Manifest, detector: Detector, settings: EvaluateSettings, folder: Path
) -> None:
    """Writes the pictures and curve tables into `folder`, which it makes."""
    folder.mkdir(parents=True)
    categories = {
        name: pictures.Scores(_scores(part), _labels(part), detector.thresholds[name].threshold)
        for name, part in _by_category(judged).items()
    }
    write_curves(categories, folder)
    pictures.curves(categories, folder / "curves.png")
    pictures.histograms(categories, folder / "histograms.png")
    misses = []
    for j in worst(judged, detector, settings.gallery):
        threshold = detector.thresholds[j.row.category].threshold
        wrong = (j.score > threshold) != bool(j.row.label)
        kind = ("missed" if j.row.label else "false alarm") if wrong else "right, but narrowly"
        title = f"{j.row.path}: {kind}, {j.score:.3f} against {threshold:.3f}"
        image = detector.encoder.transform.visible(read_image(manifest.root / j.row.path))
        misses.append(pictures.Miss(title, image, j.mask, j.anomaly_map, threshold))
    pictures.gallery(misses, folder / "worst.png")


def _by_category(judged: list[Judged]) -> dict[str, list[Judged]]:
    return {name: [j for j in judged if j.row.category == name] for name in sorted({j.row.category for j in judged})}


def main() -> None:
    """Writes metrics, scores and pictures, and logs them to the pipeline's MLflow run."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--manifest", "--detector", "--run", "--metrics", "--scores", "--plots"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()
    settings = read_section("evaluate", EvaluateSettings)
    manifest = read_manifest(args.manifest)
    detector = Detector.load(args.detector, device=best_device())
    run = read_run(args.run)
    judged = judge(manifest, detector)
    if unusable := sum(not j.masked_right for j in judged):
        print(f"{unusable} anomalous images have empty masks: they count for image metrics only")
    metrics = {name: measure(part, detector.thresholds[name].threshold) for name, part in _by_category(judged).items()}
    mean = {name: float(np.mean([m[name] for m in metrics.values()])) for name in next(iter(metrics.values()))}
    with stage.written_whole(args.plots) as folder:
        draw(judged, manifest, detector, settings, folder)
    write_scores(judged, detector, args.scores)
    with stage.written_whole(args.metrics) as temporary:
        temporary.write_text(json.dumps({"mean": mean, "category": metrics}, indent=2) + "\n")
    run.log_metrics({f"test.{name}": value for name, value in mean.items()})
    run.log_metrics({f"test.{c}.{name}": value for c, m in metrics.items() for name, value in m.items()})
    run.log_files(args.plots, "pictures")
    run.log_file(args.scores, "evaluation")
    run.log_file(args.metrics, "evaluation")
    _print_table({**metrics, "mean": mean})


def _print_table(metrics: dict[str, dict[str, float]]) -> None:
    columns = list(metrics["mean"])
    width = max(len(name) for name in metrics)
    print(f"{'':{width}}  " + "  ".join(columns))
    for name, values in metrics.items():
        print(f"{name:{width}}  " + "  ".join(f"{values[c]:{len(c)}.3f}" for c in columns))


if __name__ == "__main__":
    stage.run(main)
