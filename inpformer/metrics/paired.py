"""Two models on the same parts: bounds of how much better or worse one is than the other.

A bootstrap knows nothing of what a sample lacks: where two models agree on all of 20 parts, it finds no difference at
all, though one may fail on a tenth of the parts to come. So a bound is made as if there was one part more, on which the
model that it is to protect against does as badly as can be and the other one as well as can be. Parts are weighted at
random (`smooth` of `inpformer.metrics.bootstrap`), and so is that one. For a mean of what lies between -1 and 1 this
is the bound of Gaffke, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
variable" (2005), which is not known to fail for any distribution. Of right and wrong decisions it is exact: with losses
alone it is that of Clopper and Pearson, against 0 the sign test (McNemar's exact test, one-sided). For whatever else is
compared here its error rates were simulated: `benchmarks/promotion.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

# Of the order in which the unseen part's weights are met: another than any of the draws'.
UNSEEN_SEED = 2005


@dataclass(frozen=True)
class Paired:
    """A measure's difference, challenger less champion, and its smooth `replicates` [r], both of the same draws;
    `parts` is the number of independent parts of the class that has fewest. `worst` is the most that a part may count
    against the challenger, or for it.
    """

    difference: float
    replicates: NDArray[np.float64]
    parts: int
    worst: float = 1.0

    def low(self, level: float) -> float:
        """At least so large is the true difference, but for a share `level` of all samples at most."""
        unseen = self._unseen
        return float(np.quantile((1 - unseen) * self.replicates - unseen * self.worst, level, method="lower"))

    def high(self, level: float) -> float:
        """At most so large is the true difference, but for a share `level` of all samples at most."""
        unseen = self._unseen
        return float(np.quantile((1 - unseen) * self.replicates + unseen * self.worst, 1 - level, method="higher"))

    @property
    def p_value(self) -> float:
        """Of two that do not differ, two-sided: where it is at most a level, `low` or `high` at half of it has the
        difference on one side of 0. The first replicate beyond 0 counts, so that it is never 0 itself.
        """
        unseen = self._unseen
        not_above = np.count_nonzero((1 - unseen) * self.replicates - unseen * self.worst <= 0)
        not_below = np.count_nonzero((1 - unseen) * self.replicates + unseen * self.worst >= 0)
        return float(min(1.0, 2 * (1 + min(not_above, not_below)) / (1 + self.replicates.size)))

    def needed(self, margin: float, level: float) -> int | None:
        """How many parts of that class would put `low` above minus the margin, if the difference stays what it is; None
        if it is below that itself.
        """
        room = self.difference + margin
        if room <= 0:
            return None
        plain = float(np.quantile(self.replicates, level, method="lower"))
        # The spread falls with the root of the number of parts, the unseen part's weight with the number.
        spread, unseen = max(0.0, self.difference - plain), max(0.0, plain - self.low(level))
        root = (spread + sqrt(spread**2 + 4 * unseen * room)) / (2 * room)
        return max(self.parts + 1, ceil(self.parts * root**2))

    @property
    def _unseen(self) -> NDArray[np.float64]:
        """The weight of the part that the sample lacks, by replicate: [r]. Its distribution, Beta(1, n), is met evenly,
        so that chance has no part in it but for the order.
        """
        places = np.random.default_rng((self.parts, UNSEEN_SEED)).permutation(self.replicates.size)
        return np.asarray(1 - (1 - (places + 0.5) / self.replicates.size) ** (1 / self.parts))


def mean_of(categories: Sequence[Paired]) -> Paired:
    """The mean over categories, whose draws are independent. One part is unseen in all, which may be of the category
    where a part weighs most; the spread within each is widened for the small number of its parts.
    """
    if len(categories) == 1:
        return categories[0]
    widened = [c.difference + (c.replicates - c.difference) * _widening(c.parts) for c in categories]
    return Paired(
        float(np.mean([c.difference for c in categories])),
        np.mean(widened, axis=0),
        len(categories) * min(c.parts for c in categories),
        max(c.worst for c in categories),
    )


def replicates_needed(comparisons: int, level: float) -> int:
    """With fewer, no p-value is so small that Holm's correction tells one of so many comparisons apart at `level`."""
    return ceil(2 * comparisons / level)


def _widening(parts: int) -> float:
    """Weights that are exponential have a spread of (n - 1) / (n + 1) of what the mean of n has, on average."""
    counted = max(2, parts)
    return sqrt((counted + 1) / (counted - 1))
