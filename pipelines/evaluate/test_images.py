"""What the calibrated detector is worth on the test images. Nothing earlier has seen them."""

import csv
import json
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from inpformer.errors import UserError
from inpformer.judging.calibration import Threshold
from inpformer.judging.detector import Detector
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods.modes import ZERO_SHOT
from inpformer.metrics.image import precision_recall_curve, roc_curve
from inpformer.metrics.settings import BootstrapSettings
from pipelines.calibrate.gallery import Shown, draw_gallery
from pipelines.calibrate.held_out import predict
from pipelines.calibrate.judge import Judge, judging
from pipelines.evaluate import pictures
from pipelines.evaluate.good_parts import outcomes_of
from pipelines.evaluate.measure import Judged, Measurement, Report
from pipelines.evaluate.remedies import remedies
from pipelines.evaluate.report import compared, doubts, mean, sentences, summary, table
from pipelines.evaluate.saturated import regions_of
from pipelines.evaluate.settings import EvaluateSettings
from pipelines.gate.linked import Linked, read_linked
from pipelines.manifest.build import read_mask
from pipelines.manifest.table import Manifest, Row, read_manifest
from pipelines.platform import files
from pipelines.platform.params import read_section


class Gallery:
    """Keeps the images on the wrong side of their threshold, farthest first, then the narrowest right ones."""

    def __init__(self, size: int, thresholds: Mapping[str, Threshold]) -> None:
        self._size, self._thresholds = size, thresholds
        self.worst: list[Judged] = []

    def add(self, judged: Judged) -> None:
        """Takes one image, and forgets the least bad one if it is full."""
        self.worst = sorted([*self.worst, judged], key=self._margin)[: self._size]

    def _margin(self, judged: Judged) -> float:
        ratio = judged.score / self._thresholds[judged.row.category].threshold - 1
        return ratio if judged.row.label else -ratio


def check_setting(detector: Detector, manifest: Manifest) -> None:
    """Raises UserError where the detector's numbers on this data would bear a wrong name."""
    training = detector.learnt_from
    if missing := sorted({row.category for row in manifest.split("test")} - set(detector.thresholds)):
        raise UserError(f"category {missing[0]} has no threshold: it needs good images in val, for calibrate.")
    if training.setting == ZERO_SHOT:
        return
    if strange := sorted(set(manifest.categories) - set(training.categories)):
        raise UserError(
            f"the detector was trained {training.setting} on {', '.join(training.categories)}, not on {strange[0]}: "
            "set train.setting to zero-shot to judge other data, or train on it."
        )


def judged_images(manifest: Manifest, judge: Judge, rows: Sequence[Row], progress: tqdm) -> Iterator[Judged]:
    """Scores test images. Raises UserError naming an image or mask that cannot be read."""
    paths, categories = [manifest.root / row.path for row in rows], [row.category for row in rows]
    known = judge.detector.plausibility
    for row, (score, anomaly_map, look) in zip(rows, predict(judge, paths, categories, progress), strict=True):
        doubted = known.doubt(look, row.category) is not None
        mask = judge.detector.mask(read_mask(manifest.root, row))
        regions = regions_of(row, manifest.root, judge.detector)
        yield Judged(row, score, anomaly_map, mask, doubted, regions)


def evaluate(
    manifest: Manifest, judge: Judge, settings: EvaluateSettings, linked: Linked
) -> tuple[dict[str, Report], list[Judged]]:
    """Each category's report, and the gallery's images. Memory does not grow with the maps."""
    test = sorted(manifest.split("test"), key=lambda row: row.category)
    thresholds = judge.detector.thresholds
    gallery = Gallery(settings.gallery, thresholds)
    reports: dict[str, Report] = {}
    with tqdm(total=len(test), desc="evaluating", unit="image", disable=None) as progress:
        # One stream, in which a category follows the other: a cluster need not wait for each one's end.
        stream = judged_images(manifest, judge, test, progress)
        for category, images in groupby(stream, lambda judged: judged.row.category):
            # Draws of its own for each category: their mean then varies as independent categories do.
            bootstrap = replace(settings.bootstrap, seed=settings.bootstrap.seed + len(reports))
            saturated = any(row.saturations for row in test if row.category == category)
            with Measurement(bootstrap, linked, saturated=saturated) as measurement:
                for judged in images:
                    measurement.add(judged)
                    gallery.add(judged)
                reports[category] = measurement.report(thresholds[category])
    return reports, gallery.worst


def write_curves(reports: Mapping[str, Report], folder: Path) -> None:
    """The points of the ROC and precision-recall curves, for `dvc plots`."""
    tables: dict[str, list[tuple[str, float, float]]] = {"fpr,tpr": [], "recall,precision": []}
    for name, report in reports.items():
        roc = roc_curve(report.scores, report.labels)
        pr = precision_recall_curve(report.scores, report.labels)
        for axes, x, y in (("fpr,tpr", roc.fpr, roc.tpr), ("recall,precision", pr.recall, pr.precision)):
            tables[axes] += [(name, float(a), float(b)) for a, b in zip(x, y, strict=True)]
    for file, (axes, points) in zip(("roc", "precision_recall"), tables.items(), strict=True):
        with (folder / f"{file}.csv").open("w", newline="") as f:
            writer = csv.writer(f)
            writer.writerow(("category", *axes.split(",")))
            writer.writerows(points)


def write_scores(reports: Mapping[str, Report], detector: Detector, file: Path) -> None:
    """A line a test image: what was decided and what is true."""
    with files.written_whole(file) as temporary, temporary.open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(("path", "category", "defect", "label", "score", "p_value", "threshold", "decision"))
        for category, report in reports.items():
            limits = detector.thresholds[category]
            for row, score in zip(report.rows, report.scores.tolist(), strict=True):
                judged = (score, limits.p_value(score), limits.threshold, limits.decide(score))
                writer.writerow((row.path, category, row.defect, row.label, *judged))


def draw(
    reports: Mapping[str, Report],
    worst: list[Judged],
    manifest: Manifest,
    detector: Detector,
    settings: BootstrapSettings,
    folder: Path,
) -> None:
    """Writes the pictures and curve tables into `folder`, which it makes."""
    folder.mkdir(parents=True)
    categories = {
        name: pictures.CategoryScores(report.scores, report.labels, detector.thresholds[name].threshold)
        for name, report in reports.items()
    }
    write_curves(reports, folder)
    pictures.curves(categories, folder / "curves.png")
    pictures.histograms(categories, folder / "histograms.png")
    bounds = {name: report.intervals(settings) for name, report in reports.items()}
    pictures.intervals({name: report.metrics for name, report in reports.items()}, bounds, folder)
    misses = []
    for j in worst:
        limits = detector.thresholds[j.row.category]
        decision = limits.decide(j.score)
        kind = {(0, "FAIL"): "false alarm", (1, "PASS"): "missed"}.get((j.row.label, decision), f"{decision}, narrowly")
        title = f"{j.row.path}: {kind}, {j.score:.3f} against {limits.threshold:.3f}"
        image = detector.open(manifest.root / j.row.path)
        seen = detector.frame(image.size).visible(image)
        misses.append(Shown(title, seen, j.mask, j.anomaly_map, limits.threshold))
    draw_gallery(misses, folder / "worst.png")


def run(args: Namespace) -> None:
    """Writes metrics, scores and pictures."""
    settings = read_section("evaluate", EvaluateSettings)
    manifest = read_manifest(args.manifest)
    linked = read_linked(args.linked)
    with judging(args.detector, settings.backend) as judge:
        detector = judge.detector
        check_setting(detector, manifest)
        reports, worst = evaluate(manifest, judge, settings, linked)
    if unmasked := sum(report.unmasked for report in reports.values()):
        print(f"{unmasked} anomalous images have no mask, or an empty one: they count for image metrics only")
    setting = detector.learnt_from.setting
    with files.written_whole(args.plots) as folder:
        draw(reports, worst, manifest, detector, settings.bootstrap, folder)
    write_scores(reports, detector, args.scores)
    parts = {name: report.parts for name, report in reports.items()}
    outcomes = outcomes_of(parts, detector.thresholds)
    rate = read_section("calibrate", CalibrationSettings).false_alarm_rate
    lines = "\n".join(
        [
            table(setting, reports, settings.bootstrap),
            sentences(reports, outcomes, linked.looked),
            doubts(reports, detector.plausibility),
            remedies(parts, detector.thresholds, rate),
        ]
    )
    with files.written_whole(args.table) as temporary:
        temporary.write_text(lines)
    # The exact numbers of all categories, and under the same names the few that `dvc metrics` shows.
    whole = {setting: summary(reports, outcomes, manifest.data_sets, settings.bootstrap)}
    few = {setting: {"mean": compared(mean(reports))}}
    for file, values in ((args.evaluation, whole), (args.metrics, few)):
        with files.written_whole(file) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n")
    print(lines)
