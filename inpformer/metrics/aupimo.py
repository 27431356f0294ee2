"""AUPIMO: how much of each anomalous image is found while good images stay almost free of false alarms.

Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low Tolerance", BMVC 2024.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inpformer.errors import UserError
from inpformer.metrics.closing import Closing
from inpformer.metrics.pixel_scores import Spill, checked

FPR_BOUNDS = (1e-5, 1e-4)
IMAGES_AT_A_TIME = 64  # of which more than the result is in memory


@dataclass(frozen=True)
class Aupimo:
    """images: float64 [n], each image's AUPIMO in [0, 1], in the order in which they came; NaN for normal images."""

    images: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """The mean over the anomalous images."""
        return float(np.nanmean(self.images))


class AupimoStream(Closing):
    """Takes one map at a time; `result` gives the AUPIMO of each anomalous image. A context manager.

    An image is anomalous if its mask has anomalous pixels, else normal: leave out anomalous images without a mask. The
    shared false-positive rate of a threshold is the mean, over the normal images, of the share of an image's pixels
    that reach it. An image's curve is the share of its anomalous pixels that are found, over the logarithm of the
    shared rate; its normal pixels play no part. AUPIMO is the mean height of that curve between the rates 1e-5 and
    1e-4.

    Exact: every distinct score of the normal images is a threshold. Between two successive ones the rate stands still
    and the curve is upright; at each one it is linear in the logarithm of the rate, and it is cut at 1e-5 and 1e-4
    exactly. anomalib (2.7) takes evenly spaced thresholds and cuts at those whose rates are nearest to the bounds; with
    ever more thresholds its value comes to this one, but for the cut.

    The rate must resolve 1e-5: `result` refuses where the highest score alone covers more than that, as with fewer than
    100 000 normal pixels, or with scores that are constant or saturate.

    Only the highest scores of the normal images matter, so the `tail` highest distinct ones are kept: enough for
    1e4 × `tail` normal pixels in all. The scores of the anomalous pixels wait in a nameless temporary file in `folder`
    (by default the system's temporary folder). For p pixels, a of them anomalous: O(p + a log p) time, 4·a bytes of
    disk, about 130 bytes × `tail` of memory beside the map at hand.
    """

    def __init__(self, tail: int = 2**20, folder: Path | None = None) -> None:
        self._tail = tail
        self._highest = _Weighted(np.empty(0, np.float32), np.empty(0))
        self._pending: list[_Weighted] = []
        self._pending_pixels = 0
        self._floor = -np.inf  # the highest score of normal pixels that are no longer kept
        self._normal_images = 0
        self._is_anomalous: list[bool] = []
        self._anomalous = Spill(np.float32, folder)

    def close(self) -> None:
        """Lets go of the temporary files."""
        self._anomalous.close()

    def add(self, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Takes a map [H, W] and its mask [H, W] (True means anomalous); sizes may differ from map to map.

        Raises UserError if a score is NaN or infinite or the disk is full, ValueError if map and mask are not one and
        the same [H, W] or not float32 and boolean.
        """
        checked(anomaly_map, mask)
        self._is_anomalous.append(bool(mask.any()))
        if self._is_anomalous[-1]:
            self._anomalous.append(anomaly_map[mask])
        else:
            self._normal_images += 1
            self._keep(anomaly_map[anomaly_map > self._floor], 1 / anomaly_map.size)

    def result(self) -> Aupimo:
        """The AUPIMO of every image taken so far.

        Raises UserError if there is no normal or no anomalous image, if the normal images cannot resolve a rate of
        1e-5, or if they have more pixels than `tail` is enough for.
        """
        is_anomalous = np.array(self._is_anomalous, dtype=np.bool_)
        if is_anomalous.all() or not is_anomalous.any():
            raise UserError(
                "AUPIMO needs both normal and anomalous images: "
                f"got {self._normal_images} normal and {is_anomalous.sum()} anomalous."
            )
        self._forget_all_but_the_highest()
        thresholds, above, reached = self._weights_of_recall()
        images = np.full(is_anomalous.size, np.nan)
        places = np.flatnonzero(is_anomalous)
        for number, (place, scores) in enumerate(zip(places, self._anomalous.parts(), strict=True)):
            images[place] = _area(np.sort(scores), thresholds, above, reached)
            if number % IMAGES_AT_A_TIME == 0:
                self._anomalous.forget()
        return Aupimo(images)

    def _keep(self, scores: NDArray[np.float32], weight: float) -> None:
        self._pending.append(_Weighted(scores, np.full(scores.size, weight)))
        self._pending_pixels += scores.size
        if self._pending_pixels > self._tail:
            self._forget_all_but_the_highest()

    def _forget_all_but_the_highest(self) -> None:
        parts = [self._highest, *self._pending]
        scores, level = np.unique(np.concatenate([p.scores for p in parts]), return_inverse=True)
        weights = np.bincount(level, np.concatenate([p.weights for p in parts])).astype(np.float64, copy=False)
        if scores.size > self._tail:
            self._floor = scores[-self._tail - 1]
        self._highest = _Weighted(scores[-self._tail :], weights[-self._tail :])
        self._pending, self._pending_pixels = [], 0

    def _weights_of_recall(self) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
        """The thresholds between the two bounds, and what recall above each and recall from each on count: [t] each."""
        low, high = FPR_BOUNDS
        rates = np.cumsum(self._highest.weights[::-1]) / self._normal_images
        if rates[0] > low * (1 + 1e-9):  # rates are rounded
            raise UserError(
                f"AUPIMO needs false-positive rates down to {low:g}, but the highest score of the normal images alone "
                f"covers {rates[0]:.2g} of their pixels: add normal images, or look for scores that saturate."
            )
        if rates[-1] < high:
            raise UserError(
                f"AUPIMO keeps the {self._tail} highest scores of normal pixels, which cover only {rates[-1]:.2g} of "
                f"them, not {high:g}: raise `tail`."
            )
        last = int(np.searchsorted(rates, high))
        logarithms = np.log(rates[: last + 1])
        start, length = logarithms[:-1], np.diff(logarithms)
        # Of the line that ends at each threshold, the part between the bounds, as fractions of its length.
        cut_from, cut_to = (np.clip((np.log(bound) - start) / length, 0, 1) for bound in (low, high))
        width = (cut_to - cut_from) * length / np.log(high / low)
        reached = width * (cut_from + cut_to) / 2
        return self._highest.scores[::-1][1 : last + 1], width - reached, reached


@dataclass(frozen=True)
class _Weighted:
    """Scores of normal pixels [n] and what each adds to the sum of the images' false-positive rates [n]."""

    scores: NDArray[np.float32]
    weights: NDArray[np.float64]


def _area(
    scores: NDArray[np.float32],
    thresholds: NDArray[np.float32],
    above: NDArray[np.float64],
    reached: NDArray[np.float64],
) -> float:
    found_above = scores.size - scores.searchsorted(thresholds, side="right")
    found = scores.size - scores.searchsorted(thresholds, side="left")
    return min(float(above @ found_above + reached @ found) / scores.size, 1.0)  # weights are rounded
