"""Two versions' thresholds at one and the same promise: else the one that promises less finds more."""

from collections.abc import Sequence

import numpy as np

from inpformer.judging.calibration import Threshold, calibrate, calibrate_across, false_alarm_bound
from inpformer.judging.settings import CalibrationSettings

# A bound is a quotient of whole numbers: what is nearer than this is one.
ROUNDING = 1e-9


def alike(category: str, both: Sequence[Threshold]) -> tuple[Threshold, ...]:
    """The thresholds of a category at the weaker of the promised false-alarm rates and the larger of the shares that
    may go to REVIEW, each from its own held-out scores. Equal to what they were where they promise the same.

    Bounds that hold with different confidences are compared by the rates that they are on average.
    """
    confidences = {one.confidence for one in both}
    average = len(confidences) > 1 or any(one.cross is not None for one in both)
    rate = max(_on_average(one) if average else one.false_alarm_rate for one in both)
    review = max(_review_share(one) for one in both)
    confidence = None if average else both[0].confidence
    return tuple(_at(category, one, rate, confidence, review) for one in both)


def _at(category: str, old: Threshold, rate: float, confidence: float | None, review: float) -> Threshold:
    """`old` at another promise. Of its own promise it stays as it is, to the last digit."""
    if rate >= 1 - ROUNDING:  # nothing is promised: so few held-out parts that the highest score is as good as any
        return old
    wanted = CalibrationSettings(rate + ROUNDING, confidence, min(review, 1 - rate - 2 * ROUNDING))
    if old.cross is None:
        made = calibrate({category: old.scores}, wanted, old.unseen)[category]
    else:
        made = calibrate_across(category, old.scores, old.cross.folds, wanted)
    same = (made.threshold, made.review_threshold) == (old.threshold, old.review_threshold)
    return old if same else made


def _on_average(one: Threshold) -> float:
    if one.confidence is None:
        return one.false_alarm_rate
    above = int(np.sum(np.array(one.scores) > one.threshold))
    return false_alarm_bound(len(one.scores), len(one.scores) - above, None)


def _review_share(one: Threshold) -> float:
    """Of the held-out parts those that go to REVIEW, over n + 1, as `calibrate` counts."""
    scores = np.array(one.scores)
    between = np.sum((scores > one.review_threshold) & (scores <= one.threshold))
    return float(between / (len(one.scores) + 1))
