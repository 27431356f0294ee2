"""The numbers of one category's test images, taken one image at a time: metrics, their intervals, its scores."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from inpformer.errors import UserError
from inpformer.judging.calibration import Threshold
from inpformer.metrics.aupimo import AupimoStream
from inpformer.metrics.bootstrap import (
    Interval,
    Replicates,
    image_replicates,
    intervals,
    mean_replicates,
)
from inpformer.metrics.closing import Closing
from inpformer.metrics.image import image_metrics
from inpformer.metrics.pixel import PixelMetricsStream
from inpformer.metrics.pixel_bootstrap import PixelReplicateStream
from inpformer.metrics.pixel_scores import Regions
from inpformer.metrics.proportion import Proportion
from inpformer.metrics.settings import BootstrapSettings
from pipelines.evaluate.saturated import Saturated
from pipelines.gate.linked import Linked, numbered
from pipelines.manifest.table import Row

# What counts on a line, before all other metrics.
LEADING = ("miss_rate", "false_alarm_rate")


@dataclass(frozen=True)
class Judged:
    """A test image, its score [float], its map [H, W] and its true mask [H, W]; whether it is `doubted` to show its
    category (see `inpformer.judging.plausibility`); its `regions`, where the data set says how much of each is enough.
    """

    row: Row
    score: float
    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_]
    doubted: bool = False
    regions: Regions | None = None


@dataclass(frozen=True)
class Parts:
    """The physical parts that the images show: the highest score of each [p], and whether any of its images is
    anomalous [p].
    """

    scores: NDArray[np.float64]
    anomalous: NDArray[np.bool_]

    @property
    def good(self) -> NDArray[np.float64]:
        """The scores of the good ones."""
        return self.scores[~self.anomalous]

    @property
    def defective(self) -> NDArray[np.float64]:
        """The scores of the others."""
        return self.scores[self.anomalous]


@dataclass(frozen=True)
class Report:
    """A category's metrics by name, the bootstrap replicates of those that are no proportions, the proportions, its
    images with their scores, and its parts. `unmasked` counts the anomalous images without a mask: they count for image
    metrics only. `doubted` says by label how many images are.
    """

    metrics: dict[str, float]
    replicates: dict[str, Replicates]
    proportions: dict[str, Proportion]
    rows: list[Row]
    scores: NDArray[np.float32]
    unmasked: int
    parts: Parts
    doubted: dict[int, int]

    @property
    def labels(self) -> NDArray[np.int64]:
        """[n], 1 for anomalous."""
        return np.array([row.label for row in self.rows], np.int64)

    def intervals(self, settings: BootstrapSettings) -> dict[str, Interval]:
        """The confidence interval of each metric: of proportions the exact one, of the others by bootstrap."""
        exact = {name: p.interval(settings.confidence) for name, p in self.proportions.items()}
        found = intervals(self.replicates, settings) | exact
        return {name: found[name] for name in self.metrics}


class Measurement(Closing):
    """Takes a category's judged images one by one; memory does not grow with their maps. A context manager.

    Images that are `linked` show one part: they are drawn together, and rates count them once. `smooth` replicates are
    those of `inpformer.metrics.bootstrap`. The draws follow from labels, parts and seed: for two detectors that judge
    the same images they are the same, and the difference of their replicates is a replicate of the difference. With
    `saturated` the images come with their regions, and the metrics of `Saturated` are measured besides.
    """

    def __init__(
        self, settings: BootstrapSettings, linked: Linked, smooth: bool = False, saturated: bool = False
    ) -> None:
        self._settings, self._linked, self._smooth = settings, linked, smooth
        self._rows: list[Row] = []
        self._scores: list[float] = []
        self._doubted = {0: 0, 1: 0}
        self._unmasked = self._masked = 0
        self._with_map: list[int] = []
        self._open = ExitStack()
        self._pixels = self._open.enter_context(PixelMetricsStream())
        self._replicates = self._open.enter_context(PixelReplicateStream(settings, smooth=smooth))
        self._aupimo = self._open.enter_context(AupimoStream())
        self._saturated = self._open.enter_context(Saturated(settings, smooth)) if saturated else None

    def close(self) -> None:
        """Lets go of the temporary files."""
        self._open.close()

    def add(self, judged: Judged) -> None:
        """Takes one image. An anomalous one with an empty mask says nothing of its pixels: its map is left out."""
        self._rows.append(judged.row)
        self._scores.append(judged.score)
        self._doubted[judged.row.label] += judged.doubted
        anomalous_pixels = bool(judged.mask.any())
        if judged.row.label and not anomalous_pixels:
            self._unmasked += 1
            return
        self._masked += anomalous_pixels
        self._pixels.add(judged.anomaly_map, judged.mask)
        group = self._linked.group(judged.row.path) or judged.row.part
        self._replicates.add(judged.anomaly_map, judged.mask, group)
        self._aupimo.add(judged.anomaly_map, judged.mask)
        if self._saturated:
            self._saturated.add(judged.row, judged.anomaly_map, judged.regions, group)
        self._with_map.append(len(self._rows) - 1)

    def report(self, threshold: Threshold) -> Report:
        """All numbers so far, LEADING first; rates are shares of the parts at `threshold`. Pixel metrics are left out
        where no anomalous image has a mask. Raises UserError if good or anomalous images are absent.
        """
        scores, labels = np.array(self._scores, np.float32), np.array([row.label for row in self._rows])
        numbers = numbered(self._rows, self._linked)
        groups = [f"{number}" for number in numbers]
        parts = judged_parts(self._rows, self._scores, numbers)
        proportions = rates(parts, threshold)
        shares = {name: proportion.value for name, proportion in proportions.items()}
        metrics = {name: shares[name] for name in LEADING if name in shares}
        metrics |= {f"image_{name}": value for name, value in asdict(image_metrics(scores, labels)).items()}
        replicates = image_replicates(scores, labels, self._settings, groups, self._smooth)
        if self._masked:
            pixel = asdict(self._pixels.result())
            metrics |= {f"pixel_{name}": value for name, value in pixel.items() if name != "aupro"}
            metrics["aupro"] = pixel["aupro"]
            replicates |= self._replicates.result()
        if self._saturated:
            found, drawn = self._saturated.report(self._rows, scores, groups)
            metrics |= found
            replicates |= drawn
        by_part = part_metrics(self._rows, scores, self._settings)
        metrics |= {name: float(values[0]) for name, values in by_part.items()}
        replicates |= by_part
        for name, values in self._aupimo_of_images().items():
            replicates[name] = mean_replicates(values, labels > 0, self._settings, groups, self._smooth)
            metrics[name] = float(replicates[name][0])
        metrics |= shares  # the rates that do not lead
        return Report(metrics, replicates, proportions, self._rows, scores, self._unmasked, parts, self._doubted)

    def _aupimo_of_images(self) -> dict[str, NDArray[np.float64]]:
        """[n], NaN for images that have none; nothing where too few good pixels resolve its false-positive rates."""
        values = np.full(len(self._rows), np.nan)
        try:
            values[self._with_map] = self._aupimo.result().images
        except UserError:
            return {}
        return {"aupimo": values}


def judged_parts(rows: Sequence[Row], scores: Sequence[float], parts: NDArray[np.intp]) -> Parts:
    """Each part once, as bad as its worst image; `parts` [n] numbers that of each image."""
    highest, anomalous = np.full(parts.max() + 1, -np.inf), np.zeros(parts.max() + 1, np.bool_)
    np.maximum.at(highest, parts, scores)
    np.logical_or.at(anomalous, parts, [row.label > 0 for row in rows])
    return Parts(highest, anomalous)


def rates(parts: Parts, threshold: Threshold) -> dict[str, Proportion]:
    """Of the anomalous parts those that PASS, of the good ones those that FAIL and those that go to REVIEW. What has no
    part has no rate.
    """
    good, defective = (
        np.array([threshold.decide(score) for score in scores.tolist()], str)
        for scores in (parts.good, parts.defective)
    )
    wrong = {
        "miss_rate": defective == "PASS",
        "false_alarm_rate": good == "FAIL",
        "review_rate": good == "REVIEW",
    }
    return {name: Proportion(int(found.sum()), found.size) for name, found in wrong.items() if found.size}


def part_metrics(
    rows: Sequence[Row], scores: NDArray[np.float32], settings: BootstrapSettings
) -> dict[str, Replicates]:
    """Image metrics with a physical part as the unit, where several images show one (Real-IAD's views): a part's
    score is its highest, and it is anomalous if any of its images is. Empty without such parts.
    """
    parts: dict[str, tuple[float, int]] = {}
    for row, score in zip(rows, scores, strict=True):
        high, label = parts.get(row.part or row.path, (-np.inf, 0))
        parts[row.part or row.path] = (max(high, float(score)), max(label, row.label))
    highest, labels = np.array([high for high, _ in parts.values()]), np.array([label for _, label in parts.values()])
    if len(parts) == len(rows) or labels.all() or not labels.any():
        return {}
    found = image_replicates(highest, labels, settings)
    return {name.replace("image_", "part_"): values for name, values in found.items()}
