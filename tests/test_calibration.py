"""Split-conformal thresholds: the rank by hand, and the bound by simulation."""

from collections.abc import Sequence

import numpy as np
import pytest

from inpformer.calibration import CalibrationSettings, Threshold, calibrate, images_needed
from inpformer.errors import UserError


def threshold(scores: Sequence[float], rate: float) -> Threshold:
    return calibrate({"nut": scores}, CalibrationSettings(rate))["nut"]


@pytest.mark.parametrize(
    ("images", "rate", "rank", "bound"),
    [
        (19, 0.05, 19, 1 / 20),  # the fewest that keep 5 %
        (18, 0.05, 18, 1 / 19),
        (20, 0.05, 20, 1 / 21),
        (39, 0.05, 38, 2 / 40),
        (99, 0.01, 99, 1 / 100),
        (5, 0.05, 5, 1 / 6),
        (1, 0.05, 1, 1 / 2),
        (200, 0.05, 191, 10 / 201),
        (9, 0.5, 5, 5 / 10),
        (24, 0.44, 14, 11 / 25),  # 25 · 0.56 is a little above 14 in floating point
    ],
)
def test_rank_and_bound_by_hand(images: int, rate: float, rank: int, bound: float) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, images + 1)).tolist()
    found = threshold(scores, rate)
    assert (found.threshold, found.images) == (rank, images)
    assert found.false_alarm_rate == pytest.approx(bound)


@pytest.mark.parametrize(("images", "rate"), [(19, 0.05), (50, 0.1), (200, 0.05), (5, 0.05)])
def test_false_alarms_keep_the_bound_on_average(images: int, rate: float) -> None:
    rng = np.random.default_rng(0)
    # Of uniform scores, a threshold t lets 1 - t of all future good parts fail.
    draws = [threshold(rng.random(images).tolist(), rate) for _ in range(2000)]
    alarms = np.array([1 - draw.threshold for draw in draws])
    three_errors = 3 * alarms.std() / np.sqrt(len(alarms))
    assert alarms.mean() == pytest.approx(draws[0].false_alarm_rate, abs=three_errors)
    assert draws[0].false_alarm_rate <= max(rate, 1 / (images + 1)) + 1e-12


@pytest.mark.parametrize("rate", [0.01, 0.02, 0.05, 0.1, 0.25, 0.3])
def test_the_rate_is_kept_by_every_number_of_images_that_can_keep_it(rate: float) -> None:
    for images in range(1, 300):
        found = threshold(list(range(images)), rate)
        keeps = (images + 1) * rate >= 1 - 1e-9
        assert (found.false_alarm_rate <= rate + 1e-12) == keeps
        assert not keeps or found.false_alarm_rate > rate - 1 / (images + 1) + 1e-9  # no stricter than it need be


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


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match=f"^false_alarm_rate is {rate}: it must be between 0 and 1"):
        CalibrationSettings(rate)


@pytest.mark.parametrize(
    ("rate", "confidence", "images"),
    [(0.01, None, 99), (0.05, None, 19), (0.001, None, 999), (0.3, None, 3), (0.01, 0.95, 299), (0.05, 0.95, 59)],
)
def test_the_images_that_a_promise_takes(rate: float, confidence: float | None, images: int) -> None:
    assert images_needed(rate, confidence) == images


@pytest.mark.parametrize("rate", [0.01, 0.02, 0.05, 0.1, 0.25, 0.3])
def test_the_images_needed_are_the_fewest_that_keep_the_promise(rate: float) -> None:
    marginal, confident = images_needed(rate, None), images_needed(rate, 0.9)
    assert threshold(list(range(marginal)), rate).false_alarm_rate <= rate + 1e-12
    assert threshold(list(range(marginal - 1)), rate).false_alarm_rate > rate
    assert 1 - (1 - rate) ** confident >= 0.9 > 1 - (1 - rate) ** (confident - 1)
