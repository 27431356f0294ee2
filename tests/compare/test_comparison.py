"""The statistics of a comparison, on made-up misses whose answer is known."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pipelines.compare import comparison
from pipelines.compare.comparison import ALL_IMAGES, CATEGORY, KIND, Estimate, Judgements, Line, compare, lines_of
from tests.compare.made_up import missing, of_nuts

NUTS = [Line(ALL_IMAGES, "", (("nut", None),))]


def first(count: int, parts: int = 60) -> NDArray[np.floating]:
    """The first so many parts are missed."""
    return (np.arange(parts) < count).astype(float)


def compared(judgements: Judgements) -> dict[str, Estimate]:
    (estimates,) = compare(judgements, NUTS, 0.95)
    return estimates["miss_rate"]


def test_two_equal_methods_do_not_differ() -> None:
    found = compared({"one": of_nuts(first(6), first(7)), "other": of_nuts(first(6), first(7))})
    assert [one.value for one in found.values()] == pytest.approx([6.5 / 60] * 2)
    assert (found["one"].best, found["other"].best) == (True, True)
    assert (found["other"].differs, found["other"].difference, found["other"].p_value) == (False, 0, 1)


def test_a_clearly_worse_one_differs_and_its_interval_says_by_how_much() -> None:
    judgements = {
        "worse": of_nuts(first(30), first(31), first(32)),
        "good": of_nuts(first(2), first(3), first(2)),
        "as good": of_nuts(first(3), first(3), first(3)),
    }
    found = compared(judgements)
    assert found["good"].best
    assert found["worse"].differs
    assert 0.1 < found["worse"].difference_low < found["worse"].difference == pytest.approx((31 - 7 / 3) / 60)
    assert found["worse"].p_value < 0.05
    assert not found["as good"].differs
    assert found["as good"].difference_low < 0 < found["as good"].difference_high


def test_seeds_that_lie_far_apart_take_the_claim_back() -> None:
    """The same means and the same images; of these three seeds the next one could be anything."""
    calm = compared({"good": of_nuts(*[first(5)] * 3), "worse": of_nuts(*[first(25)] * 3)})
    wild = compared({"good": of_nuts(*[first(5)] * 3), "worse": of_nuts(first(5), first(20), first(50))})
    assert calm["worse"].value == wild["worse"].value
    assert (calm["worse"].differs, wild["worse"].differs) == (True, False)
    assert wild["worse"].high - wild["worse"].low > 2 * (calm["worse"].high - calm["worse"].low)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_so_few_parts_claim_nothing(parts: int) -> None:
    found = compared({"good": of_nuts(first(0, parts)), "worse": of_nuts(first(parts, parts))})
    assert found["worse"].difference == 1
    assert not found["worse"].differs
    assert found["good"].low == 0
    assert found["good"].high == pytest.approx(1 - 0.025 ** (1 / parts), rel=0.02)  # Clopper and Pearson


def test_what_two_methods_could_claim_five_may_not() -> None:
    """Every pair is a comparison, as the best one is found on the same images."""
    two = {"good": of_nuts(first(0, 30)), "worse": of_nuts(first(7, 30))}
    assert compared(two)["worse"].differs
    five = {**two, **{f"like {n}": of_nuts(first(0, 30)) for n in range(3)}}
    assert not compared(five)["worse"].differs


def test_lines_are_means_over_categories_and_are_corrected_for_together() -> None:
    cells = {("bolt", None): first(0, 20), ("bolt", "dent"): first(0, 8), ("nut", None): first(10, 20)}
    cells |= {("nut", "dent"): first(4, 8), ("nut", "scratch"): first(3, 6)}
    judgements = {"one": [missing(cells)], "other": [missing({**cells, ("nut", None): first(0, 20)})]}
    lines = lines_of(judgements)
    assert [line.name for line in lines[CATEGORY]] == ["bolt", "nut"]
    assert {line.name: line.cells for line in lines[KIND]} == {
        "dent": (("bolt", "dent"), ("nut", "dent")),
        "scratch": (("nut", "scratch"),),
    }
    (whole,) = compare(judgements, lines[ALL_IMAGES], 0.95)
    assert [one.value for one in whole["miss_rate"].values()] == [0.25, 0]
    together = compare(judgements, lines[CATEGORY], 0.95)
    alone = compare(judgements, lines[CATEGORY][1:], 0.95)
    assert together[0]["miss_rate"]["other"].difference == 0
    assert together[1]["miss_rate"]["one"].p_value == pytest.approx(2 * alone[0]["miss_rate"]["one"].p_value)
    (dent, scratch) = compare(judgements, lines[KIND], 0.95)
    assert dent["miss_rate"]["one"].value == 0.25
    assert scratch["miss_rate"]["one"].value == 0.5


def test_the_order_of_the_methods_changes_no_difference() -> None:
    judgements = {"a": of_nuts(*map(first, (4, 9, 6, 5))), "b": of_nuts(*map(first, (20, 24, 25, 30)))}
    one, other = compared(judgements), compared(dict(reversed(judgements.items())))
    assert one["b"].difference == other["b"].difference == pytest.approx(18.75 / 60)
    assert one["b"].differs is other["b"].differs is True
    assert one["b"].difference_low == pytest.approx(other["b"].difference_low, abs=0.05)
    assert 0 < one["b"].difference_low < one["b"].difference < one["b"].difference_high


METHODS, SEEDS, PARTS, TRIALS = 4, 3, 40, 100
SPREAD = 0.6  # of the seeds, in deviations of the parts' difficulty
TRUE = stats.norm.sf(0.8 / np.sqrt(1 + 0.5**2 + SPREAD**2))


@pytest.fixture(scope="module")
def populations() -> list[Judgements]:
    """Of equal methods: parts are hard for all alike, and a seed of any method misses more or fewer of all of them.
    Over parts and seeds each misses TRUE.
    """
    rng = np.random.default_rng(0)

    def trained(hard: NDArray[np.floating]) -> NDArray[np.floating]:
        return (hard + rng.normal(0, 0.5, PARTS) + rng.normal(0, SPREAD) > 0.8).astype(float)

    def population(hard: NDArray[np.floating]) -> Judgements:
        return {f"method {n}": of_nuts(*(trained(hard) for _ in range(SEEDS))) for n in range(METHODS)}

    return [population(rng.normal(size=PARTS)) for _ in range(TRIALS)]


def test_of_equal_methods_one_is_called_worse_as_seldom_as_stated(
    populations: list[Judgements], monkeypatch: pytest.MonkeyPatch
) -> None:
    def share() -> float:
        return float(np.mean([any(one.differs for one in compared(own).values()) for own in populations]))

    assert share() <= stats.binom.ppf(0.999, TRIALS, 0.05) / TRIALS
    monkeypatch.setattr(comparison, "over_seeds", lambda paired, values, number: paired)  # what the spread is for
    assert share() > 0.2


def test_intervals_hold_the_true_rate_as_often_as_stated(populations: list[Judgements]) -> None:
    found = [compared(own)["method 0"] for own in populations]
    held = np.mean([one.low <= TRUE <= one.high for one in found])
    assert held >= stats.binom.ppf(0.001, TRIALS, 0.95) / TRIALS
