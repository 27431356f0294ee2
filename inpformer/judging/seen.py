"""Which images a detector was trained on: those cannot vouch for its thresholds.

The record holds the first 8 bytes of each image file's sha256, so it knows an image again by its bytes alone: one that
was saved anew, cropped or photographed twice is another image to it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from inpformer.errors import UserError
from inpformer.judging.stored import read_content, write_content

NAME, FOLDS = "sha256_starts", "without_fold"
# Of an image that the models of all folds were trained on.
BY_ALL = -1
HEX_DIGITS = 16


@dataclass(frozen=True, eq=False)
class SeenImages:
    """`starts` uint64 [n], sorted, each once: 8 bytes an image. A million of them take another image for theirs with a
    probability of 5e-14. `without` int32 [n], where there are models of folds: the fold whose model has not seen the
    image, or BY_ALL; None where there are none.
    """

    starts: NDArray[np.uint64]
    without: NDArray[np.int32] | None = None

    @classmethod
    def of(cls, digests: Iterable[str]) -> Self:
        """The record of image files with these sha256 (hex)."""
        return cls(np.unique(_starts(digests)))

    @classmethod
    def of_folds(cls, folds: Mapping[str, int]) -> Self:
        """The record of image files by their sha256 (hex), each with the fold whose model has not seen it, or
        BY_ALL.
        """
        starts, first = np.unique(_starts(folds), return_index=True)
        return cls(starts, np.fromiter(folds.values(), np.int32)[first])

    def with_all_of(self, other: Self) -> Self:
        """Both records as one."""
        return type(self)(np.union1d(self.starts, other.starts))

    def __len__(self) -> int:
        return int(self.starts.size)

    def overlap(self, digests: Sequence[str]) -> list[int]:
        """Which of the image files with these sha256 (hex) are among them, by their places in `digests`."""
        return [int(place) for place in np.flatnonzero(np.isin(_starts(digests), self.starts))]

    def fold_of(self, digests: Sequence[str]) -> list[int | None]:
        """Of each image file with these sha256 (hex) the fold whose model has not seen it, or BY_ALL; None where none
        has, or nothing is known of folds.
        """
        if self.without is None or not len(self):
            return [None] * len(digests)
        starts = _starts(digests)
        places = np.searchsorted(self.starts, starts).clip(max=len(self) - 1)
        known = self.starts[places] == starts
        return [int(self.without[place]) if there else None for place, there in zip(places, known, strict=True)]

    def save(self, file: Path) -> str:
        """Writes the record; returns the sha256 (hex) of the file, which `load` asks for."""
        without = {} if self.without is None else {FOLDS: self.without}
        return write_content(file, save({NAME: self.starts, **without}))

    @classmethod
    def load(cls, file: Path, sha256: str) -> Self:
        """Raises UserError naming the file if it is missing, damaged or not the one with this sha256."""
        tensors = read_content(file, sha256, load)
        starts, without = tensors.get(NAME), tensors.get(FOLDS)
        wrong = starts is None or starts.dtype != np.uint64 or starts.ndim != 1 or (starts[1:] <= starts[:-1]).any()
        if starts is None or wrong or not _fits(without, starts):
            raise UserError(f"{file} is no record of images seen in training: fetch or train the detector again.")
        return cls(starts, without)


def _fits(without: NDArray[Any] | None, starts: NDArray[Any]) -> bool:
    return without is None or (without.dtype == np.int32 and without.shape == starts.shape)


def _starts(digests: Iterable[str]) -> NDArray[np.uint64]:
    return np.fromiter((int(digest[:HEX_DIGITS], 16) for digest in digests), np.uint64)
