"""Where a defect is: connected regions of the anomaly map above the threshold."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inpformer.images.frame import Frame

EIGHT_CONNECTED = np.ones((3, 3), dtype=int)


@dataclass(frozen=True)
class Region:
    """`box` is (left, top, right, bottom) in pixels of the image, right and bottom exclusive; `area` in pixels of
    the image; `peak` the largest value of the anomaly map in the region. `cells` [h, w] says which pixels of the map
    belong to it, from the pixel `corner` (row, column) on.
    """

    box: tuple[int, int, int, int]
    area: float
    peak: float
    corner: tuple[int, int] = field(repr=False)
    cells: NDArray[np.bool_] = field(repr=False, compare=False)


def find_regions(anomaly_map: NDArray[np.float32], limit: float, frame: Frame) -> list[Region]:
    """The regions of `anomaly_map` above `limit`, the highest peak first, in pixels of the image that `frame` maps.

    The limit is the image score's: the score is the mean of the map's top 1 %, so an image whose score is above it
    has at least one region.
    """
    # In 64 bit, as the score is compared: in 32 bit the limit could round up to the map's largest value.
    labels, _ = ndimage.label(anomaly_map > np.float64(limit), EIGHT_CONNECTED)
    regions = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == number
        box = frame.box_in_image((columns.start, rows.start, columns.stop, rows.stop))
        peak = float(anomaly_map[rows, columns][inside].max())
        area = float(inside.sum()) * frame.pixel_area
        regions.append(Region(box, area, peak, (rows.start, columns.start), inside))
    return sorted(regions, key=lambda region: -region.peak)
