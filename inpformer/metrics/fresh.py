"""Whether fresh good parts behave as the held-out ones did that set a threshold: exact tests of their alarms, and of
their scores.

Sources: under exchangeability the number of fresh scores above the k-th lowest of n has a beta-binomial law (Vovk,
"Conditional validity of inductive conformal predictors", 2012); Mann and Whitney, "On a test of whether one of two
random variables is stochastically larger than the other" (1947).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

# Pairs of scores up to which the law of the rank sum is computed and not approximated by a normal one: some .1 s.
EXACT_PAIRS = 20_000
DRAWS = 9999  # permutations, where scores tie


def tail_on_average(alarms: int, parts: int, held_out: int, rank: int) -> float:
    """The probability of at least `alarms` among `parts` fresh parts above the `rank`-th lowest of `held_out` scores.

    Over calibrations and fresh parts together: the alarms of one threshold vary more than a binomial's, as the
    threshold itself varies. Ties only make alarms fewer.
    """
    counts = np.arange(alarms, parts + 1)
    return min(1.0, float(stats.betabinom.pmf(counts, parts, held_out + 1 - rank, rank).sum()))


def tail_at(alarms: int, parts: int, rate: float) -> float:
    """The probability of at least `alarms` among `parts` fresh parts, if each is one with the probability `rate`."""
    return float(stats.binomtest(alarms, parts, rate, "greater").pvalue)


@dataclass(frozen=True)
class Shift:
    """`higher`: the share of pairs in which the fresh score is the higher one (ties count half; .5: alike); `p_value`
    of the two-sided Mann-Whitney test that both are from one distribution.
    """

    higher: float
    p_value: float


def shift(held_out: Sequence[float], fresh: Sequence[float]) -> Shift:
    """Compares two independent samples of scores, by ranks alone.

    Mann-Whitney and not Kolmogorov-Smirnov: a threshold breaks where all scores move, which ranks see with fewer
    parts, and the share of pairs says by how much. Its p-value is exact up to EXACT_PAIRS pairs: by permutations where
    scores tie, seeded draws of them where there are many. Beyond it is the normal one with the correction for ties.
    """
    pairs, tied = len(held_out) * len(fresh), len({*held_out, *fresh}) < len(held_out) + len(fresh)
    method: object = "asymptotic"
    if pairs <= EXACT_PAIRS:
        method = stats.PermutationMethod(DRAWS, rng=np.random.default_rng(0)) if tied else "exact"
    found = stats.mannwhitneyu(np.asarray(fresh, float), np.asarray(held_out, float), method=method)
    return Shift(float(found.statistic) / pairs, float(found.pvalue))
