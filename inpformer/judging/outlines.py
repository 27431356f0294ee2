"""The polygon around a region: along the edges of the map's pixels, so that it holds exactly these."""

import numpy as np
from numpy.typing import NDArray

from inpformer.images.frame import Frame
from inpformer.judging.regions import Region

# In edges of pixels: a map of 8192×8192 may hold a region with millions.
LONGEST = 20_000
# By heading, clockwise from the right: a step along an edge, and the pixels ahead on the left hand and on the right
# hand, as (row, column) from the corner where one stands, which is called as the pixel below it and on its right.
HEADINGS = (
    ((0, 1), (-1, 0), (0, 0)),
    ((1, 0), (0, 0), (0, -1)),
    ((0, -1), (0, -1), (-1, -1)),
    ((-1, 0), (-1, -1), (-1, 0)),
)


def outline(region: Region, frame: Frame) -> list[tuple[float, float]] | None:
    """The corners (x, y) of the outer boundary, clockwise, in pixels of the image that `frame` maps; holes are not cut
    out. None for one of more than LONGEST edges, inner ones counted.
    """
    inside = np.pad(region.cells, 1)
    if np.count_nonzero(np.diff(inside, axis=0)) + np.count_nonzero(np.diff(inside, axis=1)) > LONGEST:
        return None
    top, left = region.corner
    return [frame.point_in_image(top + row, left + column) for row, column in _corners(inside)]


def _corners(inside: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Of the boundary of connected pixels within a rim of others, (row, column) without the rim. It is walked with the
    pixels on the right hand; from one to another that it touches by a corner alone, the walk crosses over.
    """
    start = row, column = 1, int(np.flatnonzero(inside[1])[0])
    heading, found = 0, []
    while True:
        (down, right), left_hand, right_hand = HEADINGS[heading]
        row, column = row + down, column + right
        if inside[row + left_hand[0], column + left_hand[1]]:
            turned = (heading - 1) % 4
        elif inside[row + right_hand[0], column + right_hand[1]]:
            turned = heading
        else:
            turned = (heading + 1) % 4
        if turned != heading:
            found.append((row - 1, column - 1))
        heading = turned
        if (row, column) == start and heading == 0:
            return found
