"""Thresholds with a promise, from held-out normal images alone: split conformal, one a category, never test data.

The one assumption: the next good parts come from the same production as the held-out images (exchangeability), so the
model must not have been trained on any of these. Each `Threshold` says how far that is known.
Source: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005), for the marginal bound; Vovk,
"Conditional validity of inductive conformal predictors" (2012), for the bound that holds with a confidence.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from inpformer.config import require
from inpformer.errors import BrokenScoreError, UserError
from inpformer.judging.cross import CrossScores, bound, equal_folds, most_allowed, parts_needed
from inpformer.judging.settings import CalibrationSettings

Verdict = Literal["PASS", "REVIEW", "FAIL"]

# How it is known that the model was not trained on the held-out images: they were compared with those that it was
# trained on, the user said so, or it is not known.
CHECKED, SAID, UNKNOWN = "checked", "said", "unknown"


@dataclass(frozen=True)
class Threshold:
    """One category's limits, and what they are worth.

    A score above `threshold` is a FAIL, one above `review_threshold` alone a REVIEW. `scores` are those of the
    held-out normal images, lowest first. `false_alarm_rate` is the bound that holds on the share of good parts
    that FAIL: with `confidence`, or on average where that is null. `missing_images` is 0 where this keeps what
    was asked for; otherwise the claim is refused, the largest score is the threshold, and so many more held-out
    images would keep it. `unseen` says how it is known that none of these images was trained on: "checked", "said" or
    "unknown". `cross` is there where each score is of a model that was trained without that part, None where all are
    of one model.
    """

    threshold: float
    review_threshold: float
    false_alarm_rate: float
    confidence: float | None
    missing_images: int
    scores: tuple[float, ...]
    unseen: str = UNKNOWN
    cross: CrossScores | None = None

    def __post_init__(self) -> None:
        require(math.isfinite(self.threshold), "threshold", self.threshold, "a finite number")
        right = f"at most the threshold, {self.threshold}"
        require(self.review_threshold <= self.threshold, "review_threshold", self.review_threshold, right)
        states = (CHECKED, SAID, UNKNOWN)
        require(self.unseen in states, "unseen", self.unseen, f"one of {', '.join(states)}")
        each = self.cross is None or len(self.cross.folds) == len(self.scores)
        require(each, "cross", self.cross, f"of {len(self.scores)} folds, one a score")

    @property
    def promised(self) -> bool:
        """Whether `false_alarm_rate` is a promise, or only what would hold if no held-out image was trained on."""
        return self.unseen != UNKNOWN

    @property
    def usual_distance(self) -> float:
        """The median distance between the score of a held-out good part and the threshold."""
        return float(np.median(np.abs(np.array(self.scores) - self.threshold)))

    def decide(self, score: float) -> Verdict:
        """Raises BrokenScoreError for a score that is not finite: it says nothing of the part."""
        refuse_broken(score)
        if score > self.threshold:
            return "FAIL"
        return "PASS" if score <= self.review_threshold else "REVIEW"

    def percentile(self, score: float) -> float:
        """How many of a hundred held-out good parts score lower; of equals half."""
        lower = bisect_left(self.scores, score) + bisect_right(self.scores, score)
        return 50 * lower / len(self.scores) if self.scores else 0.0

    def p_value(self, score: float) -> float:
        """The conformal p-value of a score: a good part's is at most α with a probability of at most α; with `cross`
        it says how many held-out parts scored as high, and the promise is that of the threshold alone. Raises what
        `decide` raises.
        """
        refuse_broken(score)
        as_high = sum(held >= score for held in self.scores)
        return (1 + as_high) / (1 + len(self.scores))


def refuse_broken(score: float, what: str = "the image") -> None:
    """Raises BrokenScoreError, naming `what` was scored, if a score is not finite."""
    if not math.isfinite(score):
        raise BrokenScoreError(
            f"the model scores {what} {score}, which is no finite number: it is broken, train it again."
        )


def calibrate(
    scores: Mapping[str, Sequence[float]], settings: CalibrationSettings, unseen: str = UNKNOWN
) -> dict[str, Threshold]:
    """Thresholds by category from the image scores of held-out normal images; `unseen` is that of `Threshold`.

    Raises UserError for a category without images and for a score that is not finite.
    """
    return {category: _calibrate(category, values, settings, unseen) for category, values in scores.items()}


def _calibrate(category: str, values: Sequence[float], settings: CalibrationSettings, unseen: str) -> Threshold:
    ordered = np.sort(_finite(category, values))
    n, confidence = ordered.size, settings.confidence
    rank = _rank(n, settings.false_alarm_rate, confidence)
    # Between two ranks lies their difference over n + 1 of the good parts, on average: a budget, not a promise.
    review_rank = max(1, rank - math.floor((n + 1) * settings.review_rate + 1e-9))
    return Threshold(
        threshold=float(ordered[rank - 1]),
        review_threshold=float(ordered[review_rank - 1]),
        false_alarm_rate=false_alarm_bound(n, rank, confidence),
        confidence=confidence,
        missing_images=max(0, images_needed(settings.false_alarm_rate, confidence) - n),
        scores=tuple(ordered.tolist()),
        unseen=unseen,
    )


def calibrate_across(
    category: str, scores: Sequence[float], folds: Sequence[int], settings: CalibrationSettings
) -> Threshold:
    """The threshold of a category from one score for each of its good parts, each of the model that was trained without
    the part's fold, whose number is in `folds`; all folds are of one size. See `inpformer.judging.cross`.

    Raises UserError for a category without parts and for a score that is not finite.
    """
    values = _finite(category, scores)
    order = np.argsort(values, kind="stable")
    ordered, n = values[order], len(values)
    count, size = equal_folds(n, len(set(folds)))
    possible = most_allowed(count, size, settings.false_alarm_rate)
    allowed = possible or 0
    rank = n - allowed
    review_rank = max(1, rank - math.floor((n + 1) * settings.review_rate + 1e-9))
    missing = 0 if possible is not None else parts_needed(settings.folds or count, settings.false_alarm_rate, n) - n
    return Threshold(
        threshold=float(ordered[rank - 1]),
        review_threshold=float(ordered[review_rank - 1]),
        false_alarm_rate=bound(count, size, allowed),
        confidence=None,
        missing_images=missing,
        scores=tuple(ordered.tolist()),
        unseen=CHECKED,
        cross=CrossScores(tuple(folds[place] for place in order), allowed),
    )


def _finite(category: str, values: Sequence[float]) -> NDArray[np.float64]:
    found = np.asarray(values, dtype=np.float64)
    if not found.size:
        raise UserError(f"category {category} has no held-out normal images: raise manifest.val_fraction.")
    if not np.isfinite(found).all():
        raise UserError(f"category {category} has scores that are not finite: the model is broken, train it again.")
    return found


def _rank(images: int, rate: float, confidence: float | None) -> int:
    """The lowest rank among the n scores whose score keeps `rate`; n if none does."""
    if confidence is None:
        # The small number keeps (n + 1)(1 - rate) = 19.000000000000004 from becoming 20.
        return min(images, math.ceil((images + 1) * (1 - rate) - 1e-9))
    ranks = np.arange(1, images + 1)
    keeps = betaincinv(images - ranks + 1, ranks, confidence) <= rate
    return int(ranks[keeps][0]) if keeps.any() else images


def false_alarm_bound(images: int, rank: int, confidence: float | None) -> float:
    """The bound on the share of good parts that score above the `rank`-th lowest of `images` scores.

    That share is at most a Beta(n - k + 1, k) variable (k the rank): its mean is the bound on average, its
    quantile the bound that holds with `confidence`. Ties only lower the share.
    """
    if confidence is None:
        return (images + 1 - rank) / (images + 1)
    return float(betaincinv(images - rank + 1, rank, confidence))


def images_needed(false_alarm_rate: float, confidence: float | None, above: int = 0) -> int:
    """The fewest held-out normal images a category with which a threshold keeps the rate; with `above` of them above
    it, which then may be outliers.

    On average (a + 1)/α - 1 (1 %: 99); with confidence c and a = 0 as many as let (1 - α)ⁿ fall to 1 - c (1 %, 95 %:
    299).
    """
    if confidence is None:
        return math.ceil((above + 1) / false_alarm_rate - 1 - 1e-9)
    fewest, most = above + 1, above + 1
    while false_alarm_bound(most, most - above, confidence) > false_alarm_rate + 1e-12:
        fewest, most = most + 1, 2 * most
    while fewest < most:
        middle = (fewest + most) // 2
        keeps = false_alarm_bound(middle, middle - above, confidence) <= false_alarm_rate + 1e-12
        fewest, most = (fewest, middle) if keeps else (middle + 1, most)
    return most
