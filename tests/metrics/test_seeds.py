"""The spread of seeds: the law of a mean over a few, and what it does to bounds."""

import numpy as np
import pytest
from scipy import stats

from inpformer.metrics.paired import Paired
from inpformer.metrics.seeds import over_seeds

MANY = 10**6  # parts: the test images say nothing of their own


def test_of_a_few_seeds_alone_the_bounds_are_students() -> None:
    values = [0.91, 0.95, 0.9]
    found = over_seeds(Paired(0.92, np.full(20_000, 0.92), MANY), values, 0)
    exact = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found.low(0.025), found.high(0.025)) == pytest.approx(exact, abs=2e-3)


def test_the_steps_of_two_methods_are_independent() -> None:
    nothing = Paired(0.0, np.zeros(20_000), MANY)
    one, two = (over_seeds(nothing, [0.0, 0.1, 0.2, 0.3], number).replicates for number in (0, 1))
    assert abs(stats.spearmanr(one, two).statistic) < 0.03
    np.testing.assert_array_equal(np.sort(one), np.sort(two))


@pytest.mark.parametrize("values", [[0.9], [0.9, 0.9, 0.9]])
def test_one_seed_and_equal_ones_add_nothing(values: list[float]) -> None:
    paired = Paired(0.9, np.linspace(0, 1, 100), 20)
    assert over_seeds(paired, values, 0) is paired
