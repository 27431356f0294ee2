"""Pictures that go with a detector, and their scores: before it serves anywhere, it must score them so again.

The files may all be right and judge otherwise: weights of the encoder that somebody named by hand, a runtime or a
library that is wrong on this processor. No digest says anything of that.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load, save

from inpformer.errors import UserError
from inpformer.judging.stored import read_content, write_content

if TYPE_CHECKING:
    from inpformer.judging.detector import Detector

CHALLENGE_FILE = "challenge.safetensors"  # of a detector
SCORES = "scores"
# How far a score may be off: this share of the usual distance between a good part's score and the threshold, twice what
# an export of 16 bits may be off, or this share of the score, where that is more.
ALLOWED, ROUNDING = 0.1, 1e-3
# Fewer score otherwise, and have thresholds of their own.
FEWEST_BITS = 16
NO_TURN = nullcontext()


@dataclass(frozen=True)
class Challenge:
    """The `content` of an image file of a good part of `category`, and the `score` that it had."""

    content: bytes
    category: str
    score: float


def save_challenges(challenges: Sequence[Challenge], file: Path) -> str:
    """Returns the sha256 (hex) of the file, which `load_challenges` asks for."""
    tensors = {f"{n}:{one.category}": np.frombuffer(one.content, np.uint8) for n, one in enumerate(challenges)}
    return write_content(file, save({**tensors, SCORES: np.array([one.score for one in challenges])}))


def load_challenges(file: Path, sha256: str) -> tuple[Challenge, ...]:
    """Raises UserError naming the file if it is missing, damaged or not the one with this sha256."""
    tensors = read_content(file, sha256, load)
    scores = tensors.pop(SCORES, np.empty(0))
    found = {}
    for name, content in tensors.items():
        number, separator, category = name.partition(":")
        if not separator or not number.isdecimal() or content.dtype != np.uint8 or content.ndim != 1:
            raise _no_challenges(file)
        found[int(number)] = content.tobytes(), category
    if scores.dtype != np.float64 or scores.shape != (len(tensors),) or sorted(found) != list(range(len(scores))):
        raise _no_challenges(file)
    return tuple(Challenge(*found[n], float(score)) for n, score in enumerate(scores))


def check_challenges(detector: "Detector", turn: AbstractContextManager[object] = NO_TURN) -> int:
    """Has the detector score its pictures, as it is loaded, each in a `turn`; returns how many it was asked.

    Raises UserError for the first whose score is another than it was.
    """
    if detector.backend.precision < FEWEST_BITS:
        return 0
    asked = [one for one in detector.challenges if one.category in detector.thresholds]
    for number, one in enumerate(asked, start=1):
        picture = detector.open(one.content, f"picture {number} that goes with the detector")
        with turn:
            score = float(detector.predict([picture], [one.category]).scores[0])
        unit = detector.thresholds[one.category].usual_distance
        if not abs(score - one.score) <= max(ALLOWED * unit, ROUNDING * abs(one.score)):  # nor no number
            raise UserError(
                f"it scores a picture of {one.category} {score:.6g} here, and {one.score:.6g} when it was calibrated: "
                f"check the weights of its encoder, or compute by another backend than {detector.backend.name}."
            )
    return len(asked)


def _no_challenges(file: Path) -> UserError:
    return UserError(f"{file} holds no pictures with scores: fetch or train the detector again.")
