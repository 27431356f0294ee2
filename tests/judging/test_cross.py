"""Cross-conformal calibration: the bound holds where models overfit, and the one score says what the p-value says."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom

from inpformer.errors import UserError
from inpformer.judging.calibration import CHECKED, calibrate_across
from inpformer.judging.cross import CrossScores, bound, equal_folds, folds_needed, keeps, most_allowed, parts_needed
from inpformer.judging.settings import CalibrationSettings

DRAWS = 4000
ASKED = CalibrationSettings(0.3, review_rate=0.1)


def nearest(train: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """A scorer that overfits as badly as one can: what it has seen scores 0, all else is some distance away."""
    return np.abs(judged[:, None] - train[None]).min(axis=1)


def false_alarm(rng: np.random.Generator, parts: int, folds: int, rate: float, overfitted: bool) -> bool:
    """Whether one good part FAILs after a calibration on `parts` others. `overfitted` takes the scores of the training
    itself, of the models that judge, for held-out ones.
    """
    data = rng.lognormal(size=parts + 1)
    train, new = data[:-1], data[-1:]
    count, size = equal_folds(parts, folds)
    fold = np.where(np.arange(parts) < count * size, np.arange(parts) % count, -1)
    seen = [np.ones(parts, bool) if overfitted else fold != k for k in range(count)]
    used = np.flatnonzero(fold >= 0)
    scores = [float(nearest(train[seen[fold[i]]], train[i : i + 1])[0]) for i in used]
    limits = calibrate_across("nut", scores, fold[used].tolist(), replace(ASKED, false_alarm_rate=rate))
    assert limits.cross is not None
    own = {k: float(np.float32(nearest(train[seen[k]], new)[0])) for k in range(count)}
    return limits.decide(limits.cross.score(own, limits.scores, limits.threshold)) == "FAIL"


def alarms(parts: int, folds: int, rate: float, overfitted: bool = False) -> int:
    rng = np.random.default_rng(parts + 100 * folds)
    return sum(false_alarm(rng, parts, folds, rate, overfitted) for _ in range(DRAWS))


@pytest.mark.parametrize(
    ("parts", "folds", "rate"), [(9, 9, 0.2), (14, 14, 0.3), (14, 20, 0.3), (20, 5, 0.3), (23, 4, 0.34)]
)
def test_no_more_good_parts_fail_than_promised(parts: int, folds: int, rate: float) -> None:
    assert keeps(parts, folds, rate)
    # With the true share at the promise, a count above this comes once in a thousand tests.
    assert alarms(parts, folds, rate) <= binom.isf(1e-3, DRAWS, rate)


def test_scores_of_the_training_itself_would_break_the_promise() -> None:
    assert alarms(14, 14, 0.3, overfitted=True) > binom.isf(1e-3, DRAWS, 0.3)


def test_the_promise_is_not_idle() -> None:
    """A bound of 1 would hold too: more parts fail than half of what α says, 1 in 15."""
    assert alarms(14, 14, 0.3) >= binom.ppf(1e-3, DRAWS, 0.5 * 2 / 15)


def p_value(own: dict[int, float], scores: list[float], folds: list[int]) -> Fraction:
    """As the method defines it."""
    return Fraction(1 + sum(s >= own[k] for s, k in zip(scores, folds, strict=True)), len(scores) + 1)


@pytest.mark.parametrize("ties", [False, True])
def test_the_score_is_above_the_threshold_exactly_where_the_p_value_is_at_most_alpha(ties: bool) -> None:
    rng = np.random.default_rng(0)
    decided = []
    for draw in range(400):
        count, size = int(rng.integers(2, 5)), int(rng.integers(1, 6))
        n = count * size
        values = rng.integers(0, 4, 2 * n) if ties else rng.normal(size=2 * n)
        drawn = [float(np.float32(value)) for value in values]
        scores, folds = drawn[:n], [i % count for i in range(n)]
        own = dict(enumerate(drawn[n : n + count]))
        limits = calibrate_across("nut", scores, folds, replace(ASKED, false_alarm_rate=0.05 + 0.85 * (draw % 10) / 10))
        assert limits.cross is not None
        failed = limits.decide(limits.cross.score(own, limits.scores, limits.threshold)) == "FAIL"
        assert failed == (p_value(own, scores, folds) <= Fraction(limits.cross.allowed + 1, n + 1))
        decided.append(failed)
    assert {True, False} == set(decided)


@pytest.mark.parametrize("above", [1e-30, 1e-9, -1e-30, 0.0])
def test_rounding_decides_nothing(above: float) -> None:
    """What exceeds by less than a float32 can show is above the threshold all the same."""
    cross = CrossScores((0, 1), 0)
    assert (cross.score({0: 1.0 + above, 1: 3.0}, (1.0, 2.0), 2.0) > 2.0) == (1.0 + above > 1.0)
    assert (cross.score({0: above, 1: 5.0}, (0.0, 2.0), 2.0) > 2.0) == (above > 0)


def test_where_all_models_are_one_the_score_is_theirs() -> None:
    scores = tuple(np.linspace(1, 2, 12).tolist())
    cross = CrossScores(tuple(n % 4 for n in range(12)), 2)
    assert cross.score(dict.fromkeys(range(4), 1.75), scores, scores[9]) == pytest.approx(1.75)


def test_one_broken_model_of_the_folds_breaks_the_score() -> None:
    scored = CrossScores((0, 1, 2), 0).score({0: 5.0, 1: float("nan"), 2: 5.0}, (1.0, 1.0, 1.0), 1.0)
    assert np.isnan(scored)


@pytest.mark.parametrize(
    ("parts", "folds", "expected"),
    [(60, 60, 2 / 61), (60, 30, 2 / 61 + 0.5 / 31), (60, 10, 2 / 61 + (1 - 1 / 6) / 11), (400, 2, 2 / 401 + 1 / 201)],
)
def test_the_bound_is_that_of_the_theorem(parts: int, folds: int, expected: float) -> None:
    assert bound(*equal_folds(parts, folds), 0) == pytest.approx(expected)


def test_more_exceedances_are_allowed_as_far_as_the_rate_goes() -> None:
    for rate in np.linspace(0.02, 0.9, 45):
        allowed = most_allowed(40, 1, float(rate))
        assert (allowed is None) == (rate < 2 / 41)
        if allowed is not None:
            assert bound(40, 1, allowed) <= rate + 1e-12 < bound(40, 1, allowed + 1) + 1e-9


def test_what_is_needed_is_the_first_that_does() -> None:
    for folds, rate in ((60, 0.05), (10, 0.05), (2, 0.05), (5, 0.2)):
        needed = parts_needed(folds, rate)
        assert [n for n in range(2, needed + 1) if keeps(n, folds, rate)] == [needed]
    assert (parts_needed(60, 0.05), parts_needed(10, 0.05)) == (39, 400)
    assert parts_needed(10, 0.05, more_than=400) > 400
    assert (folds_needed(60, 0.05), folds_needed(40, 0.05), folds_needed(38, 0.05)) == (30, 39, None)


def test_a_promise_that_cannot_be_kept_is_refused_with_what_would_do() -> None:
    limits = calibrate_across("nut", np.arange(20.0).tolist(), [n % 10 for n in range(20)], CalibrationSettings(0.05))
    assert limits.threshold == 19.0
    assert limits.false_alarm_rate == pytest.approx(bound(10, 2, 0))
    assert limits.missing_images == 400 - 20
    assert (limits.unseen, limits.promised) == (CHECKED, True)


def test_fewer_parts_than_folds_are_told_what_the_folds_asked_for_take() -> None:
    """38 parts are 38 folds; one more would be 39, and not a second part for each of them."""
    limits = calibrate_across("nut", np.arange(38.0).tolist(), list(range(38)), CalibrationSettings(0.05, folds=60))
    assert limits.missing_images == 1


def test_review_is_the_share_below_the_threshold() -> None:
    limits = calibrate_across(
        "nut", np.arange(39.0).tolist(), list(range(39)), CalibrationSettings(0.05, review_rate=0.1)
    )
    assert (limits.threshold, limits.review_threshold, limits.missing_images) == (38.0, 34.0, 0)


@pytest.mark.parametrize(("scores", "folds"), [([], []), ([1.0, float("inf")], [0, 1])])
def test_no_scores_and_broken_ones_are_refused(scores: list[float], folds: list[int]) -> None:
    with pytest.raises(UserError, match="category nut"):
        calibrate_across("nut", scores, folds, ASKED)


@pytest.mark.parametrize(("folds", "allowed"), [((0, 1), 2), ((0, 1), -1), ((0, -1), 0)])
def test_an_impossible_record_is_refused(folds: tuple[int, ...], allowed: int) -> None:
    with pytest.raises(UserError, match=r"^(allowed|folds) is"):
        CrossScores(folds, allowed)


@pytest.mark.parametrize("change", [{"folds": 1}, {"folds": 5, "confidence": 0.95}])
def test_settings_without_a_promise_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"^{list(change)[-1]} is"):
        replace(CalibrationSettings(), **change)
