"""Thresholds from held-out normal images: split conformal, one threshold a category, never from test data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inpformer.errors import UserError
from inpformer.settings import require


@dataclass(frozen=True)
class CalibrationSettings:
    """`false_alarm_rate`: the share of good parts that may be called defective, on average over calibrations."""

    false_alarm_rate: float = 0.05

    def __post_init__(self) -> None:
        require(0 < self.false_alarm_rate < 1, "false_alarm_rate", self.false_alarm_rate, "between 0 and 1, e.g. 0.05")


@dataclass(frozen=True)
class Threshold:
    """An image whose score is above `threshold` fails.

    `images` held-out normal images set it. `false_alarm_rate` is the bound that holds for the next good part, on
    average over draws of those images, as long as it comes from the same production (split conformal).
    """

    threshold: float
    images: int
    false_alarm_rate: float

    def __post_init__(self) -> None:
        require(math.isfinite(self.threshold), "threshold", self.threshold, "a finite number")


def images_needed(false_alarm_rate: float, confidence: float | None) -> int:
    """The fewest held-out normal images of a category that can keep a false-alarm rate.

    Without a confidence, on average over draws of those images: the largest of n scores is exceeded by the next good
    part with probability 1/(n + 1) (split conformal). With one, for the draw at hand and with that probability: of n
    images that a threshold lets all pass, 1 - (1 - rate)^n (Wilks).
    """
    # The small number keeps a rounding error above a whole number from asking for one image more.
    if confidence is None:
        return math.ceil(1 / false_alarm_rate - 1 - 1e-9)
    return math.ceil(math.log1p(-confidence) / math.log1p(-false_alarm_rate) - 1e-9)


def calibrate(scores: Mapping[str, Sequence[float]], settings: CalibrationSettings) -> dict[str, Threshold]:
    """Thresholds by category from the image scores of held-out normal images.

    The threshold is the k-th smallest of n scores with k = ceil((n + 1)(1 - rate)). With fewer than 1/rate - 1
    images no threshold keeps the rate: then the largest score is taken, and the bound says what it is worth.

    Raises UserError for a category without images and for a score that is not finite.
    """
    thresholds = {}
    for category, values in scores.items():
        ordered = np.sort(np.asarray(values, dtype=np.float64))
        if not ordered.size:
            raise UserError(f"category {category} has no held-out normal images: raise manifest.val_fraction.")
        if not np.isfinite(ordered).all():
            raise UserError(f"category {category} has scores that are not finite: the model is broken, train it again.")
        n = ordered.size
        # The small number keeps (n + 1)(1 - rate) = 19.000000000000004 from becoming 20.
        rank = min(n, math.ceil((n + 1) * (1 - settings.false_alarm_rate) - 1e-9))
        thresholds[category] = Threshold(float(ordered[rank - 1]), n, (n + 1 - rank) / (n + 1))
    return thresholds
