"""Two versions at one promise: the weaker of the two, each from its own held-out images."""

import numpy as np
import pytest

from inpformer.judging.calibration import Threshold, calibrate, calibrate_across
from inpformer.judging.settings import CalibrationSettings
from pipelines.promote.policy import alike


def made(
    images: int, rate: float, confidence: float | None = None, review: float = 0.05, shift: float = 0
) -> Threshold:
    scores = (np.random.default_rng(images).normal(size=images) + shift).tolist()
    return calibrate({"nut": scores}, CalibrationSettings(rate, confidence, review), "checked")["nut"]


@pytest.mark.parametrize("images", [(20, 40), (99, 99), (19, 300), (3, 3)])
@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_of_one_promise_neither_moves(images: tuple[int, int], rate: float) -> None:
    """Though the bounds that are kept differ a little with the number of images."""
    if min(images) * rate < 0.9 and images[0] != images[1]:
        pytest.skip("the smaller one cannot keep that")
    both = made(images[0], rate), made(images[1], rate)
    assert alike("nut", both) == both


def test_with_a_confidence_neither_moves() -> None:
    both = made(59, 0.05, 0.95), made(90, 0.05, 0.95)
    one, two = alike("nut", both)
    assert one.threshold == both[0].threshold
    # The largest that keep 5 % with 90 images keep 4.9 %.
    assert two.threshold == both[1].threshold


def test_the_stricter_one_is_lowered_to_the_other() -> None:
    strict, weak = made(99, 0.01, review=0), made(99, 0.2, review=0)
    for both in ((strict, weak), (weak, strict)):
        found = alike("nut", both)
        assert {one.threshold for one in found} == {weak.threshold}
        assert {one.false_alarm_rate for one in found} == {weak.false_alarm_rate}
        assert found[both.index(weak)] is weak


def test_one_with_too_few_images_draws_the_other_down_to_what_it_keeps() -> None:
    few, many = made(4, 0.01, review=0), made(199, 0.01, review=0)  # which keeps 20 %
    one, two = alike("nut", (few, many))
    assert one is few
    assert two.false_alarm_rate == pytest.approx(0.2)
    assert np.mean(np.array(many.scores) > two.threshold) == pytest.approx(0.2, abs=0.01)


def test_who_sends_fewer_to_review_does_as_the_other() -> None:
    """Else one finds more by sending more parts to a person."""
    without, often = made(99, 0.05, review=0), made(99, 0.05, review=0.2)
    one, two = alike("nut", (without, often))
    assert two is often
    assert (one.threshold, one.review_threshold) == (often.threshold, often.review_threshold)


def test_bounds_of_different_kinds_are_compared_as_averages() -> None:
    sure, average = made(299, 0.05, 0.95, review=0), made(99, 0.05, review=0)
    found = alike("nut", (sure, average))
    assert {one.confidence for one in found} == {None}
    assert found[1].threshold == average.threshold
    assert found[0].threshold <= sure.threshold
    assert found[0].false_alarm_rate == pytest.approx(0.05, abs=0.003)


def test_thresholds_of_folds_keep_their_folds() -> None:
    scores = np.random.default_rng(0).normal(size=40).tolist()
    folds = [n % 10 for n in range(40)]
    asked = CalibrationSettings(0.2, folds=10)
    across = calibrate_across("nut", scores, folds, asked)
    one, two = alike("nut", (across, made(99, 0.3, review=0)))
    assert one.cross is not None
    assert one.cross.folds == tuple(folds[n] for n in np.argsort(scores, kind="stable"))
    assert one.threshold <= across.threshold
    assert two.false_alarm_rate == pytest.approx(0.3)
