"""Bounds of a paired difference: against exact tests where there are some, and by simulation where there are none."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from benchmarks.promotion.populations import Draw, Sizes, separations, shares
from benchmarks.promotion.tables import called_better, rate, shown_not_worse
from inpformer.metrics.bootstrap import image_replicates, mean_replicates
from inpformer.metrics.paired import Paired, mean_of
from inpformer.metrics.settings import BootstrapSettings

MANY = BootstrapSettings(replicates=20_000)


def of_parts(values: list[float], settings: BootstrapSettings = MANY) -> Paired:
    """The mean of what each part counts for or against the challenger."""
    drawn = mean_replicates(np.array(values), np.zeros(len(values), bool), settings, smooth=True)
    return Paired(float(drawn[0]), drawn[1:], len(values))


@pytest.mark.parametrize("parts", [5, 20, 60, 300])
def test_where_two_agree_on_every_part_the_bound_is_the_exact_one(parts: int) -> None:
    found = Paired(0.0, np.zeros(2000), parts)
    assert found.low(0.05) == pytest.approx(-(1 - 0.05 ** (1 / parts)), rel=2e-3)
    assert found.high(0.05) == -found.low(0.05)


@pytest.mark.parametrize(("parts", "losses"), [(20, 1), (50, 2), (50, 5), (200, 10)])
def test_of_losses_alone_it_is_clopper_and_pearsons(parts: int, losses: int) -> None:
    found = of_parts([-1.0] * losses + [0.0] * (parts - losses))
    exact = stats.binomtest(losses, parts).proportion_ci(0.9, "exact").high  # 5 % on this side
    assert found.low(0.05) == pytest.approx(-exact, rel=0.02)


@pytest.mark.parametrize(("wins", "losses"), [(5, 0), (7, 1), (12, 4)])
def test_against_nothing_it_is_the_sign_test(wins: int, losses: int) -> None:
    found = of_parts([1.0] * wins + [-1.0] * losses + [0.0] * 20)
    p_value = float(stats.binom.cdf(losses, wins + losses, 0.5))
    assert found.low(p_value * 1.1) > 0
    assert found.low(p_value / 1.1) < 0


@pytest.mark.parametrize(("wins", "losses"), [(5, 0), (7, 1), (4, 12), (3, 3)])
def test_its_p_value_is_twice_the_sign_tests(wins: int, losses: int) -> None:
    found = of_parts([1.0] * wins + [-1.0] * losses + [0.0] * 20)
    tail = float(stats.binom.cdf(min(wins, losses), wins + losses, 0.5))
    assert found.p_value == pytest.approx(min(1, 2 * tail), rel=0.1)


def test_at_its_p_value_the_bounds_exclude_nothing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        found = Paired(0.3, rng.normal(0.3, 0.1, 499), int(rng.integers(5, 200)))
        level = found.p_value / 2
        assert found.low(level) > 0 or found.high(level) < 0
    assert Paired(0.0, np.zeros(500), 20).p_value == 1


def test_over_categories_one_part_is_missing_in_all() -> None:
    agreeing = [Paired(0.0, np.zeros(2000), parts) for parts in (20, 30, 20)]
    assert mean_of(agreeing).low(0.05) == pytest.approx(-(1 - 0.05 ** (1 / 60)), rel=2e-3)
    assert mean_of(agreeing[1:2]) == agreeing[1]


def test_the_mean_of_categories_has_the_spread_of_independent_ones() -> None:
    rng = np.random.default_rng(0)
    found = [Paired(0.01 * n, 0.01 * n + rng.normal(0, 0.05, 50_000), 100) for n in range(4)]
    mean = mean_of(found)
    assert mean.difference == pytest.approx(0.015)
    assert mean.replicates.std() == pytest.approx(0.05 / 2 * sqrt(101 / 99), rel=0.02)


@pytest.mark.parametrize("values", [[0.0] * 20, [-1.0, 1.0, 1.0] + [0.0] * 25])
def test_so_many_parts_as_it_says_are_enough(values: list[float]) -> None:
    found = of_parts(values)
    assert found.low(0.05) < -0.05
    needed = found.needed(0.05, 0.05)
    assert needed is not None
    times = needed / len(values)
    assert of_parts(values * round(1.15 * times)).low(0.05) > -0.05
    assert of_parts(values * max(1, round(0.7 * times))).low(0.05) < -0.05


def test_more_parts_of_a_worse_one_show_no_better() -> None:
    assert of_parts([-1.0] * 4 + [0.0] * 16).needed(0.15, 0.05) is None


def test_of_two_that_differ_in_one_part_every_replicate_is_its_weight() -> None:
    """The draws follow from labels, groups and seed alone, so that replicates of two models are paired."""
    labels = np.repeat([0, 1], 20)
    scores = np.random.default_rng(0).normal(size=40) + 3 * labels
    worse = scores.copy()
    worse[30] = -9.0  # below every good one
    settings = BootstrapSettings(replicates=500, seed=3)
    first, second = (image_replicates(s, labels, settings, smooth=True)["image_auroc"] for s in (worse, scores))
    assert (first - second < 0).all()
    alone = np.where(np.arange(40) == 30, -1.0, np.where(labels > 0, 0.0, np.nan))
    weights = mean_replicates(alone, labels > 0, settings, smooth=True)
    np.testing.assert_allclose((first - second), weights * (second[0] - first[0]) * 20, rtol=0.6, atol=0.01)
    assert np.corrcoef(first - second, weights)[0, 1] > 0.95


FEW = 500
ALLOWED = stats.binom.ppf(0.999, FEW, 0.05) / FEW  # of 5 %, but for one run in a thousand


@pytest.mark.parametrize(
    "draw",
    [
        shares(Sizes(60), 0.05, 0, 500),
        shares(Sizes(100), 0.15, 0.1, 500),
        shares(Sizes(20, 3), 0.05, 0, 500),
        shares(Sizes(20, 3), 0.05, 0, 500, alone=True),
        shares(Sizes(10, 6), 0.05, 0, 500),
        separations(Sizes(60), 300, 0.99999, 0.05, "defective"),
        separations(Sizes(60), 300, 0.95, 0.05, "good", levels=8),
        separations(Sizes(60, images=2), 300, 0.95, 0.05),
    ],
)
def test_one_that_is_worse_by_the_margin_is_promoted_as_seldom_as_stated(draw: Draw) -> None:
    assert rate(draw, shown_not_worse(0.05), FEW).value <= ALLOWED


def test_the_bootstrap_alone_would_promote_it() -> None:
    """What the missing part is for."""
    draw = shares(Sizes(20), 0.05, 0, 500)
    plain = rate(draw, lambda paired: float(np.quantile(paired.replicates, 0.05)) > -0.05, FEW).value
    assert plain > 0.2
    assert rate(draw, shown_not_worse(0.05), FEW).value == 0


@pytest.mark.parametrize("discordant", [0.05, 0.4])
def test_an_equal_one_is_called_better_as_seldom_as_stated(discordant: float) -> None:
    draw = shares(Sizes(60), discordant / 2, discordant / 2, 1000)
    assert rate(draw, called_better, FEW).value <= stats.binom.ppf(0.999, FEW, 0.01) / FEW


def test_one_that_is_better_gets_through() -> None:
    assert rate(shares(Sizes(300), 0.0, 0.1, 500), called_better, 100).value > 0.9
    assert rate(shares(Sizes(100), 0.0, 0.0, 500), shown_not_worse(0.05), 20).value == 1
