"""Confidence intervals of proportions that hold for few items and for none found: exact, by Clopper and Pearson.

Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial" (1934).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from inpformer.metrics.bootstrap import Interval


@dataclass(frozen=True)
class Proportion:
    """`found` of `total` independent items; `total` is at least 1."""

    found: int
    total: int

    @property
    def value(self) -> float:
        """The share."""
        return self.found / self.total

    def interval(self, confidence: float) -> Interval:
        """Holds the true probability in at least `confidence` of all samples."""
        low, high = stats.binomtest(self.found, self.total).proportion_ci(confidence, "exact")
        return float(low), float(high)


def mean_interval(proportions: Sequence[Proportion], confidence: float) -> Interval:
    """Of the unweighted mean of independent proportions: that of one proportion of the same value and as many items as
    all would have if each had no more than the smallest has.

    With equally many items each it holds at least as often as `confidence` (0.5 or more), whatever the single
    probabilities: a sum of unequal binomials has no heavier tails than one of equal ones (Hoeffding, "On the
    distribution of the number of successes in independent trials", 1956). With unequal numbers the smallest bounds the
    variance, which is no proof: the tests compute how often it holds.
    """
    items = len(proportions) * min(p.total for p in proportions)
    found = items * sum(p.value for p in proportions) / len(proportions)
    rest = (1 - confidence) / 2
    low = stats.beta.ppf(rest, found, items - found + 1) if found > 0 else 0.0
    high = stats.beta.ppf(1 - rest, found + 1, items - found) if found < items else 1.0
    return float(low), float(high)
