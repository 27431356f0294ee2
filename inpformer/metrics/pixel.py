"""Exact localisation metrics in bounded memory: every distinct score is one threshold and nothing is binned.

A pixel is called anomalous when its score reaches the threshold.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inpformer.errors import UserError
from inpformer.metrics.closing import Closing
from inpformer.metrics.descent import MEMORY_PIXELS, Descent, Levels, area
from inpformer.metrics.pixel_scores import by_class

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

    A `Descent` sorts the scores, in its time and memory. At a threshold that no anomalous pixel has, recall and overlap
    stand still and precision can only fall, so the distinct scores of anomalous pixels are all that counts.
    """

    def __init__(self, memory_pixels: int = MEMORY_PIXELS, folder: Path | None = None) -> None:
        self._descent = Descent(memory_pixels, folder)
        self._regions = 0

    def close(self) -> None:
        """Lets go of the temporary files."""
        self._descent.close()

    def add(self, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Takes a map [H, W] and its mask [H, W] (True means anomalous); sizes may differ from map to map.

        Raises UserError if a score is NaN or infinite or the disk is full, ValueError if map and mask are not one and
        the same [H, W] or not float32 and boolean.
        """
        scores, regions = by_class(anomaly_map, mask)
        self._descent.add(scores)
        self._regions += regions

    def result(self) -> PixelMetrics:
        """Rates all maps taken so far.

        Raises UserError if there is no anomalous or no normal pixel among them.
        """
        normals, anomalous = self._descent.normals, self._descent.anomalous
        if not normals or not anomalous:
            raise UserError(
                f"Pixel metrics need both normal and anomalous pixels: got {normals} normal and {anomalous} anomalous."
            )
        curves = _Curves(normals, anomalous)
        for levels in self._descent.levels():
            curves.extend(levels)
        return curves.metrics(self._regions)


def pixel_metrics(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> PixelMetrics:
    """Rates maps [n, H, W] against masks [n, H, W] that are in memory anyway. Raises what PixelMetricsStream raises."""
    with PixelMetricsStream() as stream:
        for anomaly_map, mask in zip(maps, masks, strict=True):
            stream.add(anomaly_map, mask)
        return stream.result()


class _Curves:
    """What the four metrics need of the curves so far, which grow from the highest score to the lowest."""

    def __init__(self, normals: int, anomalous: int) -> None:
        self._normals, self._anomalous = normals, anomalous
        self._found = self._alarms = 0
        self._roc_area = self._overlap_area = self._precision_sum = self._f1max = 0.0

    def extend(self, levels: Levels) -> None:
        """Takes the next interval."""
        found = self._found + np.cumsum(levels.gained[::-1])[::-1]
        before, alarms = self._alarms + levels.alarms_before, self._alarms + levels.alarms
        reported = found + alarms
        self._roc_area += float(area(levels.gained, before, alarms, float(self._normals)))
        self._overlap_area += float(area(levels.shares, before, alarms, AUPRO_FPR_LIMIT * self._normals))
        self._precision_sum += float(np.sum(levels.gained * (found / reported)))
        self._f1max = max(self._f1max, float(np.max(2 * found / (reported + self._anomalous), initial=0)))
        self._found += int(levels.gained.sum())
        self._alarms += levels.normals

    def metrics(self, regions: int) -> PixelMetrics:
        """The metrics of whole curves."""
        return PixelMetrics(
            auroc=self._roc_area / self._normals / self._anomalous,
            ap=self._precision_sum / self._anomalous,
            f1max=self._f1max,
            aupro=min(self._overlap_area / (AUPRO_FPR_LIMIT * self._normals) / regions, 1.0),  # shares are rounded
        )
