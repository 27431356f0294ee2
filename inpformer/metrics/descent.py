"""Pixel scores from the highest to the lowest, in bounded memory: what all curves over them are made of."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpformer.metrics.closing import Closing
from inpformer.metrics.pixel_scores import PixelScores, PixelSpill, merged

MEMORY_PIXELS = 2**24


@dataclass(frozen=True)
class Levels:
    """An interval of scores: the t distinct scores of its anomalous pixels, lowest first, each array [t]; and how many
    normal pixels it holds.

    gained: anomalous pixels with exactly this score. shares: the sum of their regions' shares.
    alarms_before, alarms: normal pixels of the interval with a higher score, and with this score or a higher one.
    """

    gained: NDArray[np.intp]
    shares: NDArray[np.float64]
    alarms_before: NDArray[np.intp]
    alarms: NDArray[np.intp]
    normals: int


class Descent(Closing):
    """Takes the pixel scores of one image at a time and gives them back as `Levels`, the highest first. A context
    manager.

    An external sort: whenever `memory_pixels` have come together they are sorted and, where more follow, written to
    nameless temporary files in `folder` (the system's temporary folder by default). `levels` then goes down in
    intervals of which all runs together hold at most `memory_pixels`. Only the distinct scores of anomalous pixels are
    looked up among the normal ones.

    For p pixels, a of them anomalous, in r = p / memory_pixels runs: O(p log p + r² log p) time; 4·p + 8·a bytes of
    disk if r > 1; about 16 bytes × memory_pixels of memory, and up to 130 where all pixels are anomalous.
    """

    def __init__(self, memory_pixels: int = MEMORY_PIXELS, folder: Path | None = None) -> None:
        self._memory = memory_pixels
        self._spilled = PixelSpill(folder)
        self._pending: list[PixelScores] = []
        self._pending_pixels = 0
        self.normals = self.anomalous = 0

    def close(self) -> None:
        """Lets go of the temporary files."""
        self._spilled.close()

    def add(self, scores: PixelScores) -> None:
        """Takes the scores of an image. Raises UserError if the disk is full."""
        if self._pending and self._pending_pixels + len(scores) > self._memory:
            self._spilled.append(merged(self._pending))
            self._pending, self._pending_pixels = [], 0
        self._pending.append(scores)
        self._pending_pixels += len(scores)
        self.normals += scores.normal.size
        self.anomalous += scores.anomalous.size

    def levels(self) -> Iterator[Levels]:
        """Of all scores taken so far; there must be some."""
        self._pending = [merged(self._pending)]
        for interval in _intervals([*self._spilled.parts(), *self._pending], self._memory):
            yield _levels(interval, self._memory)
            self._spilled.forget()


def area(
    gained: NDArray[Any], alarms_before: NDArray[Any], alarms: NDArray[Any], limit: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """The area, from 0 to `limit` false alarms, under curves that rise by `gained` [..., t]: [...].

    Each rise is a straight line from its `alarms_before` to its `alarms` (upright if they are equal). It adds a
    triangle over that span and a rectangle from its end to the limit; a line that crosses the limit is cut.
    """
    start = np.minimum(alarms_before, limit)
    end = np.minimum(alarms, limit)
    span = np.maximum(alarms - alarms_before, 1)  # an upright line has end == start: adds 0 / 1
    return np.asarray(np.sum(gained * ((limit - end) + (end - start) ** 2 / (2 * span)), axis=-1))


def _intervals(runs: list[PixelScores], memory: int) -> Iterator[list[PixelScores]]:
    """Cuts ascending runs into intervals of scores, the highest first: what each run has in it, never empty parts.

    An interval holds at most `memory` pixels, unless it holds one value only.
    """
    while runs := [run for run in runs if len(run)]:
        cut = _lowest_score_that_fits(runs, memory)
        halves = [run.split(cut) for run in runs]
        runs = [below for below, _ in halves]
        yield [above for _, above in halves if len(above)]


def _lowest_score_that_fits(runs: list[PixelScores], memory: int) -> np.float32:
    """The lowest float32 from which on the runs hold at most `memory` pixels, or else their largest score."""
    ends = [scores for run in runs for scores in (run.normal, run.anomalous) if scores.size]
    keys = range(_key(min(s[0] for s in ends)), _key(max(s[-1] for s in ends)))

    def fits(key: int) -> bool:
        score = _score(key)
        return sum(s.size - int(s.searchsorted(score)) for s in ends) <= memory

    return _score(keys.start + bisect_left(keys, True, key=fits))


def _key(score: np.float32) -> int:
    """Numbers the float32 values in their order: the bits of the magnitude, with the sign of the score."""
    bits = int(np.abs(score).view(np.int32))
    return bits if score > 0 else -bits


def _score(key: int) -> np.float32:
    magnitude = np.int32(abs(key)).view(np.float32)
    return np.float32(magnitude if key > 0 else -magnitude)


def _levels(interval: Sequence[PixelScores], memory: int) -> Levels:
    normals = sum(part.normal.size for part in interval)
    if sum(map(len, interval)) > memory:  # one value only: no need to bring the parts together
        return Levels(
            gained=np.array([sum(part.anomalous.size for part in interval)]),
            shares=np.array([sum(float(part.shares.sum()) for part in interval)]),
            alarms_before=np.array([0]),
            alarms=np.array([normals]),
            normals=normals,
        )
    scores = interval[0] if len(interval) == 1 else merged(interval)
    new = np.concatenate(([True], scores.anomalous[1:] != scores.anomalous[:-1]))[: scores.anomalous.size]
    starts = np.flatnonzero(new)
    values = scores.anomalous[starts]
    return Levels(
        gained=np.diff(starts, append=scores.anomalous.size),
        shares=np.add.reduceat(scores.shares, starts),
        alarms_before=scores.normal.size - np.searchsorted(scores.normal, values, side="right"),
        alarms=scores.normal.size - np.searchsorted(scores.normal, values, side="left"),
        normals=normals,
    )
