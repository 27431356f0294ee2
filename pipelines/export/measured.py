"""How good an export is that has thresholds of its own, weighed against its version as promotion weighs two."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from inpformer.errors import UserError
from inpformer.judging.calibration import Threshold
from inpformer.judging.detector import Detector
from pipelines.manifest.table import Row, comparable
from pipelines.promote.compare import Compared, bootstrap_of, compare, parts_by_class
from pipelines.promote.decide import Conclusion, Decisions, Evidence, conclude, decisions_of, said
from pipelines.promote.flips import Flips
from pipelines.promote.images import SharedImages
from pipelines.promote.rescore import Pair, Rescored, rescore, unseen
from pipelines.promote.settings import PromoteSettings
from pipelines.promote.verdict import WORSE

NAMES = ("the export", "PyTorch")
# Of a category's report, in this order.
METRICS = ("miss_rate", "false_alarm_rate", "review_rate", "image_auroc", "pixel_ap", "aupro")
TIMED = 20  # images
# What is as near to a margin lies on it: differences are of quotients.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Measured:
    """What came of it. `metrics` are by category and name, of the export and of PyTorch, each at its own thresholds;
    `promises` say by category what the export's are worth. `milliseconds` are the median of an image on this machine,
    of both in the same order, one thread each.
    """

    backend: str
    precision: int
    images: Mapping[str, int]
    metrics: Mapping[str, Mapping[str, tuple[float, float]]]
    compared: Sequence[Compared]
    decisions: Decisions
    concluded: Conclusion
    thresholds: Mapping[str, Threshold]
    promises: Mapping[str, str]
    flips: Flips
    milliseconds: tuple[float, float]

    @property
    def faults(self) -> list[str]:
        """Why the export is refused; empty if it is not."""
        fallen = [one for one in self.compared if one.difference < -one.margin - ROUNDING]
        found = [f"{said(one)}, falls by more than the {one.margin:g} it may" for one in fallen]
        if not found and self.concluded.outcome == WORSE:
            found.append(f"it is worse than PyTorch: {self.concluded.reasons}")
        return found

    @property
    def content(self) -> dict[str, Any]:
        """Of report.json."""
        return {
            "backend": self.backend,
            "precision": self.precision,
            "passed": not self.faults,
            "faults": self.faults,
            "outcome": self.concluded.outcome,
            "reasons": self.concluded.reasons,
            "categories": {
                category: {
                    "images": self.images[category],
                    "metrics": {name: {"export": one, "torch": other} for name, (one, other) in own.items()},
                }
                for category, own in self.metrics.items()
            },
            "thresholds": {
                category: {
                    "threshold": limits.threshold,
                    "review_threshold": limits.review_threshold,
                    "false_alarm_rate": limits.false_alarm_rate,
                    "confidence": limits.confidence,
                    "promised": limits.promised,
                    "promise": self.promises[category],
                }
                for category, limits in self.thresholds.items()
            },
            "compared": [{**asdict(one), "difference": one.difference, "held": one.held} for one in self.compared],
            "decisions": asdict(self.decisions),
            "milliseconds": {"export": self.milliseconds[0], "torch": self.milliseconds[1]},
            "decided_differently": self.flips.listed,
        }


def measure(
    original: Detector,
    exported: Detector,
    images: SharedImages,
    promises: Mapping[str, str],
    precision: int,
    settings: PromoteSettings,
) -> Measured:
    """Judges the test images with both, each by its own thresholds. Raises UserError where there is none of a category
    to compare on, for an image that is gone, changed or unreadable, and for a score that is no number.
    """
    pair = Pair(exported, original, NAMES)
    test = [row for row in images.manifest.split("test") if row.category in original.thresholds]
    rows = comparable(unseen(test, images.linked, pair.both), list(original.thresholds))
    if not rows:
        raise UserError(
            "no category has good and defective test images to measure 8 bits on: train a version that has, with "
            "`dvc repro`, or export 16 bits."
        )
    found, flips = rescore(images.manifest.root, rows, images.linked, pair, bootstrap_of(settings))
    compared, decisions = compare(found, settings), decisions_of(found)
    untested = sorted(set(original.thresholds) - set(rows))
    evidence = Evidence(compared, decisions, (), untested, parts_by_class(found), 1 - settings.confidence)
    return Measured(
        exported.backend.name,
        precision,
        {category: len(own) for category, own in rows.items()},
        {one.category: _metrics(one) for one in found},
        compared,
        decisions,
        conclude(evidence),
        exported.thresholds,
        promises,
        flips,
        _milliseconds(pair, images.manifest.root, [row for own in rows.values() for row in own]),
    )


def _milliseconds(pair: Pair, root: Path, rows: Sequence[Row]) -> tuple[float, float]:
    """Of some of the images, by both in turns."""
    seconds = []
    for row in rows[:: -(-len(rows) // TIMED)]:
        image = pair.challenger.open(root / row.path)
        clock = [perf_counter()]
        for detector in pair.both:
            detector.predict([image], [row.category])
            clock.append(perf_counter())
        seconds.append(np.diff(clock))
    ours, theirs = (float(one) for one in 1000 * np.median(seconds, axis=0))
    return ours, theirs


def _metrics(one: Rescored) -> dict[str, tuple[float, float]]:
    ours, theirs = (report.metrics for report in one.reports)
    return {name: (ours[name], theirs[name]) for name in METRICS if name in ours and name in theirs}
