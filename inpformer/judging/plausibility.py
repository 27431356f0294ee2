"""Whether a picture shows what it is said to show: how far its features are from those of good pictures.

A score says nothing of a picture of another product, of none, or of a lamp that failed: the detector may find all of it
easy to rebuild. The features tell it apart: `look` is their mean and spread over the picture.

A look is doubted that is farther from the nearest good one of its category than FAR times what any of these is from its
own nearest. The next good part is the farthest of them and itself with a probability of at most 1 / (n + 1), so it is
doubted at most so often, without any assumption but exchangeability: the held-out good parts need not be new to the
model, as its encoder is trained on none of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load, save
from scipy.spatial.distance import cdist
from torch import Tensor

from inpformer.errors import UserError
from inpformer.judging.calibration import Verdict
from inpformer.judging.stored import read_content, write_content

PLAUSIBILITY_FILE = "plausibility.safetensors"  # of a detector, and of an export
FAR = 1.5
# Of fewer parts nothing can be said; of more, so many are drawn.
FEWEST_PARTS, MOST_PARTS = 10, 128
PREFIX = "look:"  # of a category's name, which may be any text
SMALLEST = 1e-6  # share of a look's length that is rounding

Look = NDArray[np.float32]


def look(groups: Sequence[Tensor]) -> Tensor:
    """Of each picture the mean and the spread of every channel over its tokens: groups [B, N, C] to [B, D]."""
    halves = [half for group in groups for half in (group.mean(dim=1), group.std(dim=1, correction=0))]
    return torch.cat([half.float() for half in halves], dim=1)


@dataclass(frozen=True)
class Doubt:
    """Why a picture is not taken for one of `category`: it is `times` as far from the good ones as the farthest of
    these is. `likelier` is the category that it looks like, None where that is none.
    """

    category: str
    times: float
    likelier: str | None

    @property
    def reason(self) -> str:
        """One sentence."""
        found = "no known category" if self.likelier is None else self.likelier
        return f"the picture looks like {found}, not like {self.category}: {self.times:.1f} times as far as a good one."


def reviewed(decision: Verdict, doubted: bool) -> Verdict:
    """A decision by the score, of a picture that may be doubted: a PASS becomes a REVIEW."""
    return "REVIEW" if decision == "PASS" and doubted else decision


class Plausibility:
    """The looks of good pictures by category, each of another part: [n, D]."""

    def __init__(self, looks: Mapping[str, Look]) -> None:
        self.looks = dict(looks)
        self._farthest = {category: _farthest(own) for category, own in self.looks.items()}

    @classmethod
    def of(cls, looks: Mapping[str, Look]) -> Self:
        """From the looks of one picture a part; categories of too few are left out."""
        draw = np.random.default_rng(0)
        kept = {name: own for name, own in looks.items() if len(own) >= FEWEST_PARTS}
        return cls({name: own[np.sort(draw.permutation(len(own))[:MOST_PARTS])] for name, own in kept.items()})

    def doubt(self, seen: Look, category: str) -> Doubt | None:
        """What speaks against a picture with this look [D] being of the category. None too where that is not known."""
        if category not in self.looks:
            return None
        times = self.times(seen, category)
        if not times > FAR:
            return None
        others = {name: self.times(seen, name) for name in self.looks if name != category}
        likely = min(others, key=others.__getitem__, default=None)
        return Doubt(category, times, likely if likely is not None and others[likely] <= FAR else None)

    def bound(self, category: str) -> float | None:
        """The share of good pictures that are doubted on average, at most; None where they are not checked."""
        return 1 / (1 + len(self.looks[category])) if category in self.looks else None

    def times(self, seen: Look, category: str) -> float:
        """How far a look [D] is from the good ones of the category, in distances of the farthest of these."""
        return float(np.linalg.norm(self.looks[category] - seen, axis=1).min() / self._farthest[category])

    def save(self, file: Path) -> str:
        """Writes the looks; returns the sha256 (hex) of the file, which `load` asks for."""
        return write_content(file, save({PREFIX + category: own for category, own in sorted(self.looks.items())}))

    @classmethod
    def load(cls, file: Path, sha256: str) -> Self:
        """Raises UserError naming the file if it is missing, damaged or not the one with this sha256."""
        looks: dict[str, Look] = {}
        for name, own in read_content(file, sha256, load).items():
            if own.dtype != np.float32 or own.ndim != 2 or len(own) < FEWEST_PARTS or not name.startswith(PREFIX):
                raise UserError(f"{file} holds no looks of good pictures: fetch or train the detector again.")
            looks[name.removeprefix(PREFIX)] = own
        return cls(looks)


def _farthest(looks: Look) -> float:
    """The largest distance of one of them to its nearest other."""
    apart = cdist(looks, looks)
    np.fill_diagonal(apart, np.inf)
    rounding = SMALLEST * np.linalg.norm(looks, axis=1).max()
    return float(max(apart.min(axis=1).max(), rounding, np.finfo(np.float32).tiny))
