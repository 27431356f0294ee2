"""sPRO: how much of each defect is found, where finding a part of it is enough. The metric of MVTec LOCO AD.

Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and Localization",
IJCV 2022, section 4.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inpformer.errors import UserError
from inpformer.metrics.closing import Closing
from inpformer.metrics.descent import MEMORY_PIXELS, Descent, area
from inpformer.metrics.pixel_scores import Regions, by_region

SPRO_FPR_LIMIT = 0.05


class SproStream(Closing):
    """Takes one map at a time; `result` gives the area under the curve of the saturated per-region overlap over
    false-positive rates from 0 to `limit`, divided by `limit`: in [0, 1], higher is better. A context manager.

    At each threshold a region counts with min(found pixels / its saturation, 1), averaged over all regions, whatever
    their sizes; the false-positive rate is that of the pixels of all images that lie in no region. As in
    `PixelMetricsStream` every distinct score is a threshold, the curve starts at (0, 0), is linear between thresholds
    and is cut at exactly `limit`. Where all regions of an image are its 8-connected ones, saturated by their whole
    areas, and the limit is 0.3, this is AUPRO.

    Exact and without a loop over thresholds: of a region with saturation s, the s pixels of the highest scores count
    1 / s each and all others nothing. A `Descent` sorts them, in its time and memory.
    """

    def __init__(
        self, limit: float = SPRO_FPR_LIMIT, memory_pixels: int = MEMORY_PIXELS, folder: Path | None = None
    ) -> None:
        self._limit = limit
        self._descent = Descent(memory_pixels, folder)
        self._regions = 0

    def close(self) -> None:
        """Lets go of the temporary files."""
        self._descent.close()

    def add(self, anomaly_map: NDArray[np.float32], regions: Regions) -> None:
        """Takes a map [H, W] and its regions, none of a good image: leave out anomalous images without a mask.

        Raises what PixelMetricsStream.add raises.
        """
        scores, count = by_region(anomaly_map, regions)
        self._descent.add(scores)
        self._regions += count

    def result(self) -> float:
        """Of all maps taken so far. Raises UserError if there is no region or no normal pixel among them."""
        normals = self._descent.normals
        if not normals or not self._regions:
            raise UserError(
                f"sPRO needs regions and normal pixels: got {self._regions} regions and {normals} normal pixels."
            )
        alarms, overlap, last = 0, 0.0, self._limit * normals
        for levels in self._descent.levels():
            before, reached = alarms + levels.alarms_before, alarms + levels.alarms
            overlap += float(area(levels.shares, before, reached, last))
            alarms += levels.normals
            if alarms >= last:  # what comes lower has no area
                break
        return min(overlap / last / self._regions, 1.0)  # shares are rounded
