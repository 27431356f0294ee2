"""How much better or worse the challenger is, measure by measure, as numbers with bounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from inpformer.judging.calibration import Threshold
from inpformer.metrics.bootstrap import mean_replicates
from inpformer.metrics.paired import Paired, mean_of
from inpformer.metrics.settings import BootstrapSettings
from pipelines.evaluate.measure import Parts
from pipelines.promote.rescore import Rescored
from pipelines.promote.settings import Margins, PromoteSettings

MEASURES = tuple(one.name for one in fields(Margins))
CHANCE = "above_chance"
GOOD, DEFECTIVE = "good", "defective"
# The parts of which class a measure takes more of, where there are too few.
TAKES = {
    "image_auroc": (GOOD, DEFECTIVE),
    "pixel_ap": (DEFECTIVE,),
    "aupro": (DEFECTIVE,),
    "recall": (DEFECTIVE,),
    "specificity": (GOOD,),
    CHANCE: (GOOD, DEFECTIVE),
}


@dataclass(frozen=True)
class Compared:
    """A measure of one category, or of their mean (`category` None): both values, and bounds of the difference that
    each hold with the confidence asked for; `margin` is what it may fall by. `surely_better` and `surely_worse` hold
    whatever the number of measures that were looked at. `growth` is how many times as many parts would show that it
    falls by less than the margin, None where it falls by more.
    """

    measure: str
    category: str | None
    challenger: float
    other: float
    low: float
    high: float
    margin: float
    parts: int
    surely_better: bool
    surely_worse: bool
    growth: float | None

    @property
    def difference(self) -> float:
        """Challenger less the other."""
        return self.challenger - self.other

    @property
    def held(self) -> bool:
        """Whether it is shown to fall by less than the margin."""
        return self.low > -self.margin


@dataclass(frozen=True)
class Both:
    """A measure of one category: both values and their paired difference."""

    challenger: float
    other: float
    paired: Paired


def decided_right(parts: Parts, threshold: Threshold) -> NDArray[np.bool_]:
    """Whether each part [p] is decided right: a defective one does not PASS, a good one does not FAIL."""
    decisions = np.array([threshold.decide(score) for score in parts.scores.tolist()], str)
    return np.asarray(np.where(parts.anomalous, decisions != "PASS", decisions != "FAIL"), np.bool_)


def measures_of(one: Rescored, settings: BootstrapSettings) -> dict[str, Both]:
    """The measures that a category has: those of pixels take masks."""
    first, second = one.reports
    found = {}
    counts = {
        "image_auroc": independent_parts(one),
        "pixel_ap": independent(one.parts[one.masked]),
        "aupro": independent(one.parts[one.masked]),
    }
    for name, parts in counts.items():
        if name in first.replicates and name in second.replicates and parts:
            values = first.metrics[name], second.metrics[name]
            replicates = (first.replicates[name] - second.replicates[name])[1:]
            found[name] = Both(*values, Paired(values[0] - values[1], replicates, parts))
    anomalous = first.parts.anomalous
    right = [decided_right(r.parts, limit) for r, limit in zip(one.reports, one.thresholds, strict=True)]
    for name, mine in (("recall", anomalous), ("specificity", ~anomalous)):
        if mine.any():
            shares = [float(both[mine].mean()) for both in right]
            lost = np.where(mine, right[0].astype(float) - right[1], np.nan)
            replicates = mean_replicates(lost, anomalous, settings, smooth=True)[1:]
            found[name] = Both(shares[0], shares[1], Paired(shares[0] - shares[1], replicates, int(mine.sum())))
    return found


def compare(found: Sequence[Rescored], settings: PromoteSettings) -> list[Compared]:
    """The means over the categories, then each category."""
    draws = bootstrap_of(settings)
    by_category = {
        one.category: measures_of(one, replace(draws, seed=draws.seed + number)) for number, one in enumerate(found)
    }
    having = {name: [c for c, own in by_category.items() if name in own] for name in MEASURES}
    measures = [name for name in MEASURES if having[name]]
    level = 1 - settings.confidence
    compared = []
    for name in measures:
        own = [by_category[category][name] for category in having[name]]
        mean = Both(fmean(b.challenger for b in own), fmean(b.other for b in own), mean_of([b.paired for b in own]))
        compared.append(compared_as(name, None, mean, getattr(settings.margins, name), level, len(measures)))
    several = len(measures) * len(by_category)
    for category, own_measures in by_category.items():
        for name, both in own_measures.items():
            compared.append(compared_as(name, category, both, settings.category_margin, level, several))
    return compared


def bootstrap_of(settings: PromoteSettings) -> BootstrapSettings:
    """How replicates are drawn."""
    return BootstrapSettings(settings.replicates, settings.confidence, settings.seed)


def parts_by_class(found: Sequence[Rescored]) -> Mapping[str, dict[str, int]]:
    """How many parts of each class a category's test images show."""
    return {
        one.category: {
            GOOD: one.reports[0].parts.good.size,
            DEFECTIVE: one.reports[0].parts.defective.size,
        }
        for one in found
    }


def compared_as(name: str, category: str | None, both: Both, margin: float, level: float, looked_at: int) -> Compared:
    """One of `looked_at` measures, with bounds that are each wrong with probability `level` at most."""
    paired = both.paired
    low = paired.low(level)
    needed = paired.parts if low > -margin else paired.needed(margin, level)
    return Compared(
        name,
        category,
        both.challenger,
        both.other,
        low,
        paired.high(level),
        margin,
        paired.parts,
        paired.low(level / looked_at) > 0,
        paired.high(level / looked_at) < 0,
        None if needed is None else needed / paired.parts,
    )


def independent_parts(one: Rescored) -> int:
    """As how many parts the images of the class with fewer parts count."""
    labels = one.reports[0].labels > 0
    return min(independent(one.parts[labels]), independent(one.parts[~labels]))


def independent(parts: NDArray[np.intp]) -> int:
    """As how many parts images count, if each showed as many as the part with most: it is the heaviest."""
    if not parts.size:
        return 0
    return max(1, int(parts.size // np.bincount(parts).max()))
