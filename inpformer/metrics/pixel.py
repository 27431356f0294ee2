"""Exact localisation metrics in bounded memory: every distinct score is one threshold and nothing is binned.

A pixel is called anomalous when its score reaches the threshold.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpformer.errors import UserError
from inpformer.metrics.closing import Closing
from inpformer.metrics.pixel_scores import PixelScores, PixelSpill, by_class, merged

AUPRO_FPR_LIMIT = 0.3


@dataclass(frozen=True)
class PixelMetrics:
    """How well anomaly maps separate anomalous pixels from normal ones: all in [0, 1], higher is better.

    auroc, ap, f1max: as in ImageMetrics, over all pixels of all images together.
    aupro: mean of the per-region overlap over false-positive rates from 0 to 0.3 (see PixelMetricsStream).
    """

    auroc: float
    ap: float
    f1max: float
    aupro: float


class PixelMetricsStream(Closing):
    """Takes one map at a time and rates them all together, in bounded memory.

    with PixelMetricsStream() as stream:
        for anomaly_map, mask in ...:
            stream.add(anomaly_map, mask)
        metrics = stream.result()

    AUPRO follows Bergmann et al., "The MVTec Anomaly Detection Dataset" (IJCV 2021): the regions are the 8-connected
    components of each mask; at each threshold the share of a region's pixels that are found is averaged over the
    regions, whatever their sizes; the curve of that mean over the false-positive rate (of the normal pixels of all
    images, good ones included) starts at (0, 0), is linear between thresholds, is integrated from 0 to exactly 0.3,
    and is divided by 0.3. An image without anomalous pixels counts as normal throughout, so leave out anomalous
    images that have no mask.

    An external sort: whenever `memory_pixels` have come together they are sorted and, where more follow, written to
    nameless temporary files in `folder` (the system's temporary folder by default). `result` then goes from the
    highest score to the lowest in intervals of which all runs together hold at most `memory_pixels`, and carries the
    counts from one to the next. At a threshold that no anomalous pixel has, recall and overlap stand still and
    precision can only fall, so only the distinct scores of anomalous pixels are looked up among the normal ones.

    For p pixels, a of them anomalous, in r = p / memory_pixels runs: O(p log p + r² log p) time; 4·p + 8·a bytes of
    disk if r > 1; about 16 bytes × memory_pixels of memory, and up to 130 where all pixels are anomalous.
    """

    def __init__(self, memory_pixels: int = 2**24, folder: Path | None = None) -> None:
        self._memory = memory_pixels
        self._spilled = PixelSpill(folder)
        self._pending: list[PixelScores] = []
        self._pending_pixels = 0
        self._normals = self._anomalous = self._regions = 0

    def close(self) -> None:
        """Lets go of the temporary files."""
        self._spilled.close()

    def add(self, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Takes a map [H, W] and its mask [H, W] (True means anomalous); sizes may differ from map to map.

        Raises UserError if a score is NaN or infinite or the disk is full, ValueError if map and mask are not one and
        the same [H, W] or not float32 and boolean.
        """
        scores, regions = by_class(anomaly_map, mask)
        if self._pending and self._pending_pixels + len(scores) > self._memory:
            self._spilled.append(merged(self._pending))
            self._pending, self._pending_pixels = [], 0
        self._pending.append(scores)
        self._pending_pixels += len(scores)
        self._normals += scores.normal.size
        self._anomalous += scores.anomalous.size
        self._regions += regions

    def result(self) -> PixelMetrics:
        """Rates all maps taken so far.

        Raises UserError if there is no anomalous or no normal pixel among them.
        """
        if not self._normals or not self._anomalous:
            raise UserError(
                "Pixel metrics need both normal and anomalous pixels: "
                f"got {self._normals} normal and {self._anomalous} anomalous."
            )
        self._pending = [merged(self._pending)]
        curves = _Curves(self._normals, self._anomalous)
        for interval in _intervals([*self._spilled.parts(), *self._pending], self._memory):
            curves.extend(_levels(interval, self._memory), sum(part.normal.size for part in interval))
            self._spilled.forget()
        return curves.metrics(self._regions)


def pixel_metrics(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> PixelMetrics:
    """Rates maps [n, H, W] against masks [n, H, W] that are in memory anyway. Raises what PixelMetricsStream raises."""
    with PixelMetricsStream() as stream:
        for anomaly_map, mask in zip(maps, masks, strict=True):
            stream.add(anomaly_map, mask)
        return stream.result()


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


@dataclass(frozen=True)
class _Levels:
    """The t distinct scores of the anomalous pixels of an interval of scores, lowest first; each array [t].

    gained: anomalous pixels with exactly this score. shares: the sum of their regions' shares.
    alarms_before, alarms: normal pixels of the interval with a higher score, and with this score or a higher one.
    """

    gained: NDArray[np.intp]
    shares: NDArray[np.float64]
    alarms_before: NDArray[np.intp]
    alarms: NDArray[np.intp]


class _Curves:
    """What the four metrics need of the curves so far, which grow from the highest score to the lowest."""

    def __init__(self, normals: int, anomalous: int) -> None:
        self._normals, self._anomalous = normals, anomalous
        self._found = self._alarms = 0
        self._roc_area = self._overlap_area = self._precision_sum = self._f1max = 0.0

    def extend(self, levels: _Levels, normals: int) -> None:
        """Takes the next interval, which holds `normals` normal pixels."""
        found = self._found + np.cumsum(levels.gained[::-1])[::-1]
        before, alarms = self._alarms + levels.alarms_before, self._alarms + levels.alarms
        reported = found + alarms
        self._roc_area += float(area(levels.gained, before, alarms, float(self._normals)))
        self._overlap_area += float(area(levels.shares, before, alarms, AUPRO_FPR_LIMIT * self._normals))
        self._precision_sum += float(np.sum(levels.gained * (found / reported)))
        self._f1max = max(self._f1max, float(np.max(2 * found / (reported + self._anomalous), initial=0)))
        self._found += int(levels.gained.sum())
        self._alarms += normals

    def metrics(self, regions: int) -> PixelMetrics:
        """The metrics of whole curves."""
        return PixelMetrics(
            auroc=self._roc_area / self._normals / self._anomalous,
            ap=self._precision_sum / self._anomalous,
            f1max=self._f1max,
            aupro=min(self._overlap_area / (AUPRO_FPR_LIMIT * self._normals) / regions, 1.0),  # shares are rounded
        )


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


def _levels(interval: Sequence[PixelScores], memory: int) -> _Levels:
    if sum(map(len, interval)) > memory:  # one value only: no need to bring the parts together
        return _Levels(
            gained=np.array([sum(part.anomalous.size for part in interval)]),
            shares=np.array([sum(float(part.shares.sum()) for part in interval)]),
            alarms_before=np.array([0]),
            alarms=np.array([sum(part.normal.size for part in interval)]),
        )
    scores = interval[0] if len(interval) == 1 else merged(interval)
    new = np.concatenate(([True], scores.anomalous[1:] != scores.anomalous[:-1]))[: scores.anomalous.size]
    starts = np.flatnonzero(new)
    values = scores.anomalous[starts]
    return _Levels(
        gained=np.diff(starts, append=scores.anomalous.size),
        shares=np.add.reduceat(scores.shares, starts),
        alarms_before=scores.normal.size - np.searchsorted(scores.normal, values, side="right"),
        alarms=scores.normal.size - np.searchsorted(scores.normal, values, side="left"),
    )
