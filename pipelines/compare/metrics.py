"""The metrics that methods are compared by: the one place that lists them, and how each is taken from a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpformer.judging.calibration import Threshold
from inpformer.metrics.bootstrap import mean_replicates
from inpformer.metrics.settings import BootstrapSettings
from pipelines.evaluate.measure import Report
from pipelines.gate.linked import Linked, numbered
from pipelines.promote.compare import decided_right, independent


@dataclass(frozen=True)
class Metric:
    """`name` is evaluate's, `title` for people, in [0, 1]; `higher` says whether more of it is better, `masks` whether
    it is rated on images with a marked defect, and not on all defective ones, `of_kinds` whether it is another one for
    another kind of defect.
    """

    name: str
    title: str
    higher: bool = True
    masks: bool = False
    of_kinds: bool = True


# What evaluate reports with replicates, or as a share of parts, is added by a line.
METRICS = (
    Metric("miss_rate", "misses", higher=False),
    # Few misses say little beside many of these: a rate is promised on average, one training's threshold may have more.
    Metric("false_alarm_rate", "false alarms", higher=False, of_kinds=False),
    Metric("image_auroc", "image AUROC"),
    Metric("pixel_ap", "P-AP", masks=True),
    Metric("aupro", "AUPRO", masks=True),
    Metric("spro", "sPRO", masks=True),
)


@dataclass(frozen=True)
class Measured:
    """A metric of some test images as one detector judges them: its value, its smooth replicates [r] under draws that
    are the same for all detectors, and as how many independent parts the images of the rarer class count.
    """

    value: float
    replicates: NDArray[np.float64]
    parts: int


def measured(
    report: Report, masked: Sequence[bool], linked: Linked, threshold: Threshold, settings: BootstrapSettings
) -> dict[str, Measured]:
    """The METRICS that a report has; `masked` [n] says which of its images have a marked defect, `settings` are those
    of its replicates.
    """
    parts, labels, marked = numbered(report.rows, linked), report.labels > 0, np.array(masked, bool)
    good, defective, outlined = (independent(parts[which]) for which in (~labels, labels, marked))
    replicates = {**report.replicates, **_shares(report, threshold, settings)}
    found = {}
    for metric in METRICS:
        if metric.name in report.metrics and metric.name in replicates:
            fewest = outlined if metric.masks else min(good, defective)
            if metric.name in report.proportions:
                fewest = report.proportions[metric.name].total
            found[metric.name] = Measured(report.metrics[metric.name], replicates[metric.name][1:], fewest)
    return found


def _shares(report: Report, threshold: Threshold, settings: BootstrapSettings) -> Mapping[str, NDArray[np.float64]]:
    """Replicates of the shares of parts that are decided wrong: [1 + r] each."""
    anomalous, wrong = report.parts.anomalous, ~decided_right(report.parts, threshold)
    return {
        name: mean_replicates(np.where(of, wrong, np.nan), anomalous, settings, smooth=True)
        for name, of in (("miss_rate", anomalous), ("false_alarm_rate", ~anomalous))
        if of.any()
    }
