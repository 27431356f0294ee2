"""The intervals of proportions hold as often as they say, at numbers so small that every outcome can be counted."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from inpformer.metrics.proportion import Proportion, mean_interval

PROBABILITIES = (0, 0.002, 0.01, 0.03, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 0.97, 0.998, 1)


def least_coverage(totals: tuple[int, ...], confidence: float) -> float:
    """The smallest probability, over all combinations of PROBABILITIES, with which the interval of the mean of as many
    proportions holds it: the sum over all outcomes.
    """
    outcomes = list(product(*(range(total + 1) for total in totals)))
    counted = [[Proportion(x, total) for x, total in zip(xs, totals, strict=True)] for xs in outcomes]
    bounds = np.array([mean_interval(proportions, confidence) for proportions in counted])
    masses = {
        (place, p): stats.binom.pmf([xs[place] for xs in outcomes], total, p)
        for place, total in enumerate(totals)
        for p in PROBABILITIES
    }
    found = []
    for ps in product(PROBABILITIES, repeat=len(totals)):
        truth = np.mean(ps)
        holds = (bounds[:, 0] <= truth + 1e-12) & (truth <= bounds[:, 1] + 1e-12)
        found.append(np.prod([masses[place, p] for place, p in enumerate(ps)], axis=0)[holds].sum())
    return float(min(found))


def test_none_of_twenty_by_hand() -> None:
    low, high = Proportion(0, 20).interval(0.95)
    assert (low, high) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))
    assert Proportion(20, 20).interval(0.95) == pytest.approx((1 - high, 1))
    assert Proportion(2, 20).value == 0.1


@pytest.mark.parametrize("total", [1, 2, 5, 20, 60])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_one_proportion_is_held_at_least_as_often_as_it_says(total: int, confidence: float) -> None:
    assert least_coverage((total,), confidence) >= confidence
    for found in range(total + 1):
        own = Proportion(found, total).interval(confidence)
        assert mean_interval([Proportion(found, total)], confidence) == pytest.approx(own)


@pytest.mark.parametrize("totals", [(5, 5), (20, 20), (1, 30), (5, 20), (10, 11), (4, 4, 4), (2, 5, 9)])
@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_a_mean_is_held_at_least_as_often_as_it_says(totals: tuple[int, ...], confidence: float) -> None:
    assert least_coverage(totals, confidence) >= confidence


def test_a_mean_knows_more_than_one_category() -> None:
    alone, of_fifteen = (mean_interval([Proportion(3, 60)] * n, 0.95) for n in (1, 15))
    assert of_fifteen[1] - of_fifteen[0] < 0.3 * (alone[1] - alone[0])
    assert of_fifteen[0] < 0.05 < of_fifteen[1]


@pytest.mark.parametrize("seed", range(3))
def test_a_simulated_mean_of_many_categories_is_held(seed: int) -> None:
    rng = np.random.default_rng(seed)
    totals, p = rng.integers(10, 60, 12), rng.beta(0.5, 8, 12)
    held = 0
    for _ in range(1000):
        found = rng.binomial(totals, p)
        low, high = mean_interval([Proportion(int(x), int(n)) for x, n in zip(found, totals, strict=True)], 0.95)
        held += low <= p.mean() <= high
    assert held >= 930
