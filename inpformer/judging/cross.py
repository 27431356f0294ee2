"""Cross-conformal calibration (CV+): every good part counts, judged by a model that was trained without its fold.

n parts lie in K folds of equal size; s_i is the score that part i gets of the model trained without its fold. A new
part is a FAIL if at most `allowed` of the s_i reach what the same fold's model gives the new part. For good parts that
happens with a probability of at most 2 α + excess, α = (allowed + 1) / (n + 1), on average over calibrations, if the
parts are exchangeable and a model does not depend on the order of its training parts.
Source: Barber, Candès, Ramdas and Tibshirani, "Predictive inference with the jackknife+" (2021), theorem 4; K = n is
the jackknife+, without excess.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inpformer.config import require

# Keeps α (n + 1) = 2.9999999999999996 from becoming 2.
ROUNDING = 1e-9


@dataclass(frozen=True)
class CrossScores:
    """How the scores of a threshold came about: by the models of which `folds`, one a score and in their order; and how
    many of them are `allowed` to reach the score of a FAIL.
    """

    folds: tuple[int, ...]
    allowed: int

    def __post_init__(self) -> None:
        right = f"between 0 and {len(self.folds) - 1}, for {len(self.folds)} scores"
        require(0 <= self.allowed < len(self.folds), "allowed", self.allowed, right)
        require(min(self.folds) >= 0, "folds", self.folds, "numbers of folds, from 0")

    @property
    def models(self) -> list[int]:
        """The numbers of the folds whose models judge an image."""
        return sorted(set(self.folds))

    def score(self, own: Mapping[int, float], scores: Sequence[float], threshold: float) -> float:
        """One score of what the models of the folds give an image (`own`, by fold), in float32: above `threshold`
        exactly where at most `allowed` of the held-out `scores` reach what their model gives the image. Were all models
        one, it would be what that gives. NaN if any of `own` is not finite.
        """
        if not all(math.isfinite(own[fold]) for fold in self.models):
            return math.nan
        above = np.sort([own[fold] - score for fold, score in zip(self.folds, scores, strict=True)])[self.allowed]
        score, limit = np.float32(threshold + above), np.float32(threshold)
        if above > 0:  # rounding must not put it on the threshold
            score = max(score, np.nextafter(limit, np.float32(np.inf)))
        return float(score)


def equal_folds(parts: int, folds: int) -> tuple[int, int]:
    """Of how many folds, and of how many parts each, a calibration is made that asks for `folds`: no more than there
    are parts. Those left over are trained on by all models and count for nothing else.
    """
    count = min(folds, parts)
    return count, parts // count


def excess(folds: int, size: int) -> float:
    """What `folds` folds of `size` parts add to 2 α."""
    parts = folds * size
    return min(2 * (1 - 1 / folds) / (size + 1), (1 - folds / parts) / (folds + 1))


def bound(folds: int, size: int, allowed: int) -> float:
    """The bound on the share of good parts that FAIL, on average; 1 where nothing is known."""
    return min(1.0, 2 * (allowed + 1) / (folds * size + 1) + excess(folds, size))


def most_allowed(folds: int, size: int, rate: float) -> int | None:
    """The largest `allowed` whose bound is at most `rate`; None if there is none."""
    alpha = (rate - excess(folds, size)) / 2
    allowed = math.floor(alpha * (folds * size + 1) + ROUNDING) - 1
    return allowed if allowed >= 0 else None


def keeps(parts: int, folds: int, rate: float) -> bool:
    """Whether a calibration that asks for `folds` can promise `rate` with so many parts."""
    return parts > 1 and most_allowed(*equal_folds(parts, folds), rate) is not None


def parts_needed(folds: int, rate: float, more_than: int = 1) -> int:
    """The fewest parts, of those above `more_than`, with which `folds` can promise `rate`."""
    parts = more_than + 1
    while not keeps(parts, folds, rate):
        # Between two multiples of the folds only more parts are left over.
        parts = parts + 1 if parts < folds else (parts // folds + 1) * folds
    return parts


def folds_needed(parts: int, rate: float) -> int | None:
    """The fewest folds with which so many parts can promise `rate`; None if all of them do not."""
    return next((folds for folds in range(2, parts + 1) if keeps(parts, folds, rate)), None)
