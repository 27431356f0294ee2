"""Split-conformal thresholds: the rank by hand, and the promises by simulation."""

from collections.abc import Sequence

import numpy as np
import pytest

from inpformer.errors import BrokenScoreError, UserError
from inpformer.judging.calibration import CHECKED, SAID, UNKNOWN, Threshold, calibrate, images_needed
from inpformer.judging.settings import CalibrationSettings


def threshold(
    scores: Sequence[float], rate: float, confidence: float | None = None, review_rate: float = 0.0
) -> Threshold:
    return calibrate({"nut": scores}, CalibrationSettings(rate, confidence, review_rate))["nut"]


@pytest.mark.parametrize(
    ("images", "rate", "rank", "bound", "missing"),
    [
        (19, 0.05, 19, 1 / 20, 0),  # the fewest that keep 5 %
        (18, 0.05, 18, 1 / 19, 1),
        (20, 0.05, 20, 1 / 21, 0),
        (39, 0.05, 38, 2 / 40, 0),
        (99, 0.01, 99, 1 / 100, 0),
        (5, 0.05, 5, 1 / 6, 14),
        (1, 0.05, 1, 1 / 2, 18),
        (200, 0.05, 191, 10 / 201, 0),
        (9, 0.5, 5, 5 / 10, 0),
        (24, 0.44, 14, 11 / 25, 0),  # 25 · 0.56 is a little above 14 in floating point
    ],
)
def test_rank_bound_and_missing_images_by_hand(images: int, rate: float, rank: int, bound: float, missing: int) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, images + 1)).tolist()
    found = threshold(scores, rate)
    assert (found.threshold, found.missing_images) == (rank, missing)
    assert found.scores == tuple(range(1, images + 1))
    assert found.false_alarm_rate == pytest.approx(bound)


@pytest.mark.parametrize(
    ("rate", "confidence", "needed"),
    [(0.01, None, 99), (0.05, None, 19), (0.01, 0.95, 299), (0.05, 0.95, 59), (0.1, 0.99, 44), (0.3, None, 3)],
)
def test_images_needed_by_hand(rate: float, confidence: float | None, needed: int) -> None:
    assert images_needed(rate, confidence) == needed
    enough, short = (threshold(list(range(n)), rate, confidence) for n in (needed, needed - 1))
    assert (enough.missing_images, short.missing_images) == (0, 1)
    assert enough.false_alarm_rate <= rate + 1e-12 < short.false_alarm_rate


def test_the_bound_with_confidence_by_hand() -> None:
    # No exceedance among 299: the share above the largest is at most p with confidence c where (1 - p)^n = 1 - c.
    assert threshold(list(range(299)), 0.01, 0.95).false_alarm_rate == pytest.approx(1 - 0.05 ** (1 / 299))
    assert threshold(list(range(20)), 0.01, 0.95).false_alarm_rate == pytest.approx(1 - 0.05 ** (1 / 20))


@pytest.mark.parametrize(("images", "rate"), [(19, 0.05), (50, 0.1), (200, 0.05), (5, 0.05)])
def test_false_alarms_keep_the_bound_on_average(images: int, rate: float) -> None:
    rng = np.random.default_rng(0)
    # Of uniform scores, a threshold t lets 1 - t of all future good parts fail.
    draws = [threshold(rng.random(images).tolist(), rate) for _ in range(2000)]
    alarms = np.array([1 - draw.threshold for draw in draws])
    three_errors = 3 * alarms.std() / np.sqrt(len(alarms))
    assert alarms.mean() == pytest.approx(draws[0].false_alarm_rate, abs=three_errors)
    assert draws[0].false_alarm_rate <= max(rate, 1 / (images + 1)) + 1e-12


@pytest.mark.parametrize(("images", "rate", "confidence"), [(299, 0.01, 0.95), (400, 0.05, 0.9), (59, 0.05, 0.95)])
def test_false_alarms_of_fresh_normals_keep_the_bound_with_its_confidence(
    images: int, rate: float, confidence: float
) -> None:
    rng = np.random.default_rng(1)
    draws, fresh = 1000, 20_000
    held = rng.gamma(3.0, size=(draws, images))
    limits = np.array([threshold(row.tolist(), rate, confidence).threshold for row in held])
    parts = np.sort(rng.gamma(3.0, size=fresh))
    alarms = 1 - np.searchsorted(parts, limits, side="right") / fresh
    broken = float(np.mean(alarms > rate))
    error = np.sqrt(confidence * (1 - confidence) / draws) + 0.01  # of the draws, and of the fresh parts
    assert broken <= 1 - confidence + 3 * error
    assert broken > 0.2 * (1 - confidence)  # no stricter than it need be
    assert alarms.mean() < rate


def test_ties_only_make_it_safer() -> None:
    rng = np.random.default_rng(2)
    held, parts = rng.integers(0, 4, (2000, 39)), rng.integers(0, 4, 20_000)
    alarms = [np.mean(parts > threshold(row.tolist(), 0.3).threshold) for row in held]
    assert np.mean(alarms) <= 0.3


@pytest.mark.parametrize("rate", [0.01, 0.02, 0.05, 0.1, 0.25, 0.3])
def test_the_rate_is_kept_by_every_number_of_images_that_can_keep_it(rate: float) -> None:
    for images in range(1, 300):
        found = threshold(list(range(images)), rate)
        keeps = (images + 1) * rate >= 1 - 1e-9
        assert (found.false_alarm_rate <= rate + 1e-12) == keeps == (found.missing_images == 0)
        assert not keeps or found.false_alarm_rate > rate - 1 / (images + 1) + 1e-9  # no stricter than it need be


def test_the_review_budget_is_a_second_rank() -> None:
    found = threshold(list(range(1, 100)), 0.05, review_rate=0.1)
    assert (found.threshold, found.review_threshold) == (95, 85)
    assert [found.decide(score) for score in (85, 86, 95, 96)] == ["PASS", *["REVIEW"] * 2, "FAIL"]
    none = threshold(list(range(1, 100)), 0.05)
    assert none.review_threshold == none.threshold


@pytest.mark.parametrize("confidence", [None, 0.95])
def test_reviews_of_fresh_normals_keep_the_budget(confidence: float | None) -> None:
    rng = np.random.default_rng(3)
    draws = [threshold(rng.random(99).tolist(), 0.05, confidence, review_rate=0.1) for _ in range(2000)]
    reviewed = np.array([draw.threshold - draw.review_threshold for draw in draws])
    assert reviewed.mean() == pytest.approx(0.1, abs=3 * reviewed.std() / np.sqrt(len(draws)))


def test_p_values_of_good_parts_are_no_smaller_than_chance() -> None:
    found = threshold([1, 2, 2, 3], 0.3)
    assert [found.p_value(score) for score in (0, 2, 3, 4)] == [1, 4 / 5, 2 / 5, 1 / 5]
    rng = np.random.default_rng(4)
    values = np.array([threshold(rng.random(39).tolist(), 0.1).p_value(float(rng.random())) for _ in range(4000)])
    for rate in (0.05, 0.1, 0.5):
        assert np.mean(values <= rate) == pytest.approx(rate, abs=3 * np.sqrt(rate / 4000))


def test_categories_have_thresholds_of_their_own() -> None:
    found = calibrate({"nut": [1.0, 2.0], "bolt": [5.0]}, CalibrationSettings(0.05))
    assert {category: t.threshold for category, t in found.items()} == {"nut": 2.0, "bolt": 5.0}


def test_a_category_without_images_is_refused() -> None:
    with pytest.raises(UserError, match=r"category bolt has no held-out normal images: raise manifest\.val_fraction"):
        calibrate({"nut": [1.0], "bolt": []}, CalibrationSettings())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(UserError, match="category nut has scores that are not finite: the model is broken, train"):
        threshold([0.1, bad, 0.2], 0.05)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_a_part_is_not_judged_by_a_score_that_is_not_finite(broken: float) -> None:
    found = threshold([1, 2, 3], 0.3)
    for judge in (found.decide, found.p_value):
        with pytest.raises(BrokenScoreError, match=str(broken)):
            judge(broken)


def test_what_nobody_knows_is_not_promised() -> None:
    settings = CalibrationSettings(0.3)
    found = {how: calibrate({"nut": [1.0, 2.0, 3.0]}, settings, how)["nut"] for how in (CHECKED, SAID, UNKNOWN)}
    assert {how: t.promised for how, t in found.items()} == {CHECKED: True, SAID: True, UNKNOWN: False}
    assert len({(t.threshold, t.false_alarm_rate) for t in found.values()}) == 1
    assert not threshold([1, 2, 3], 0.3).promised  # whoever says nothing knows nothing
    with pytest.raises(UserError, match=r"^unseen is 'perhaps'"):
        calibrate({"nut": [1.0]}, settings, "perhaps")


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match=f"^false_alarm_rate is {rate}: it must be between 0 and 1"):
        CalibrationSettings(rate)


def test_impossible_confidence_and_budget_are_refused() -> None:
    with pytest.raises(UserError, match=r"^confidence is 95: it must be between 0 and 1, e\.g\. 0\.95, or null"):
        CalibrationSettings(0.05, 95)
    with pytest.raises(UserError, match=r"^review_rate is 0\.96: it must be 0 or more, and below 0\.95"):
        CalibrationSettings(0.05, None, 0.96)


def test_the_percentile_counts_held_out_parts_and_of_equals_half() -> None:
    held = Threshold(4.0, 4.0, 0.2, None, 0, (1.0, 2.0, 2.0, 4.0))
    assert [held.percentile(score) for score in (0.0, 1.0, 2.0, 3.0, 4.0, 9.0)] == [0, 12.5, 50, 75, 87.5, 100]
