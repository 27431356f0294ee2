"""Tests, on the good test parts, of what each category's threshold promised."""

import math
from collections.abc import Callable, Mapping
from functools import partial

from inpformer.judging.calibration import Threshold
from inpformer.metrics.fresh import shift, tail_at, tail_on_average
from inpformer.metrics.holm import holm
from pipelines.evaluate.measure import Parts
from pipelines.evaluate.promise import SURPRISING, Outcome


def tail_of(threshold: Threshold, parts: int) -> Callable[[int], float]:
    """The probability of so many false alarms or more among good parts, by the law that the promise has: beta-binomial
    on average over calibrations, else binomial at the bound. For thresholds of folds, whose law is not known, it is the
    beta-binomial one whose mean is the bound.
    """
    if threshold.confidence is not None:
        return partial(tail_at, parts=parts, rate=threshold.false_alarm_rate)
    held_out = len(threshold.scores)
    # Of the n + 1 places between the scores; one at least is below the threshold. A bound of folds need not fall on a
    # place: the next higher one stands for it.
    above = min(held_out, max(1, math.ceil(threshold.false_alarm_rate * (held_out + 1) - 1e-9)))
    return partial(tail_on_average, parts=parts, held_out=held_out, rank=held_out + 1 - above)


def outcomes_of(parts: Mapping[str, Parts], thresholds: Mapping[str, Threshold]) -> dict[str, Outcome]:
    """The outcome for each category whose test images show a good part."""
    good = {category: found.good for category, found in parts.items() if found.good.size}
    alarms = {category: int((scores > thresholds[category].threshold).sum()) for category, scores in good.items()}
    tails = {category: tail_of(thresholds[category], scores.size) for category, scores in good.items()}
    # Of folds, held-out and fresh scores are not of the same models.
    shifts = {
        category: shift(thresholds[category].scores, scores.tolist())
        for category, scores in good.items()
        if thresholds[category].cross is None
    }
    p_values = {category: tail(alarms[category]) for category, tail in tails.items()}
    corrected = holm(p_values)
    shifts_corrected = holm({category: found.p_value for category, found in shifts.items()})
    return {
        category: Outcome(
            bound=thresholds[category].false_alarm_rate,
            confidence=thresholds[category].confidence,
            promised=thresholds[category].promised,
            held_out_parts=len(thresholds[category].scores),
            good_parts=scores.size,
            false_alarms=alarms[category],
            unsurprising=_unsurprising(tails[category], scores.size),
            p_value=p_values[category],
            corrected=corrected[category],
            higher=shifts[category].higher if category in shifts else None,
            shift_p_value=shifts[category].p_value if category in shifts else None,
            shift_corrected=shifts_corrected.get(category),
        )
        for category, scores in good.items()
    }


def _unsurprising(tail: Callable[[int], float], parts: int) -> int:
    """The most false alarms of so many parts whose tail is not below SURPRISING; the tail falls with their number."""
    low, high = 0, parts
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if tail(middle) >= SURPRISING else (low, middle - 1)
    return low
