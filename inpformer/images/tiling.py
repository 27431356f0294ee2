"""High-resolution images in overlapping tiles: every part of the picture is inspected at the resolution asked for."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpformer.config import require
from inpformer.images.frame import MAP_SIZE, Box, Frame
from inpformer.images.opening import TooLargeError

# Of one image. The largest that is opened (64 million pixels) takes 441 tiles of 512 pixels with a quarter shared, and
# below 600 if it is long; one of 24 million takes 651 of 256. A tile has a map of 256×256 float32, and the image's map
# has at most as many pixels as its tiles' together: 1024 are 268 MB of maps, and blending them takes 537 MB more.
MAX_TILES = 1024


@dataclass(frozen=True)
class Tiling:
    """Tiles of `tile` pixels a side; neighbours share at least `overlap` of it, so that a defect on a seam lies
    whole in one of them.
    """

    tile: int
    overlap: float = 0.25

    def __post_init__(self) -> None:
        require(self.tile >= 16, "tile", self.tile, "at least 16 pixels")
        require(0 <= self.overlap <= 0.75, "overlap", self.overlap, "between 0 and 0.75, e.g. 0.25")

    def windows(self, size: tuple[int, int]) -> list[Box]:
        """The tiles of an image of `size` (width, height), row by row: (left, top, right, bottom). They cover it
        all; a side shorter than a tile is taken whole.

        Raises TooLargeError for an image of more than MAX_TILES.
        """
        across, down = (self._steps(length) + 1 for length in size)
        if across * down > MAX_TILES:
            raise TooLargeError(
                f"an image of {size[0]}×{size[1]} pixels takes {across * down:,} tiles of {self.tile} pixels: at most "
                f"{MAX_TILES:,} are judged, so make the image smaller or the tiles larger."
            )
        columns, rows = (self._spans(length) for length in size)
        return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]

    def _steps(self, length: int) -> int:
        """From the first tile to the last along a side of the image."""
        return max(0, math.ceil((length - self.tile) / (self.tile * (1 - self.overlap))))

    def _spans(self, length: int) -> list[tuple[int, int]]:
        if length <= self.tile:
            return [(0, length)]
        starts = np.linspace(0, length - self.tile, self._steps(length) + 1).round().astype(int)
        return [(int(start), int(start) + self.tile) for start in starts]

    def frame(self, size: tuple[int, int]) -> Frame:
        """The map of a whole image: as fine as its tiles' maps, MAP_SIZE pixels a tile."""
        columns, rows = (max(1, round(length * MAP_SIZE / self.tile)) for length in size)
        return Frame(size, (0, 0, *size), (rows, columns))

    def mask(self, mask: Image.Image) -> NDArray[np.bool_]:
        """A ground-truth mask in the size of its image's map: true where half of a pixel or more is defective."""
        rows, columns = self.frame(mask.size).shape
        return np.asarray(mask.convert("L").resize((columns, rows), Image.Resampling.BOX)) > 127

    def blend(
        self, maps: Sequence[NDArray[np.float32]], size: tuple[int, int], score: Callable[[NDArray[np.float32]], float]
    ) -> tuple[NDArray[np.float32], float]:
        """The tiles' maps, in the order of `windows`, as one map of the image, and the image score.

        Where tiles overlap, each counts the more the farther its own edge is: an encoder sees least there. The
        score is the highest that any tile has in the blended map by the method's `score`, not the whole image's, in
        which a small defect would drown.
        """
        frame = self.frame(size)
        blended, weights = np.zeros(frame.shape, np.float32), np.zeros(frame.shape, np.float32)
        places = [self._on_map(window, frame) for window in self.windows(size)]
        for (rows, columns), tile in zip(places, maps, strict=True):
            fitted = _resize(tile, (rows.stop - rows.start, columns.stop - columns.start))
            weight = np.outer(_ramp(fitted.shape[0]), _ramp(fitted.shape[1]))
            blended[rows, columns] += weight * fitted
            weights[rows, columns] += weight
        blended /= weights
        return blended, max(score(blended[place]) for place in places)

    def _on_map(self, window: Box, frame: Frame) -> tuple[slice, slice]:
        """Rows and columns of the map that a tile covers."""
        left, top, right, bottom = window
        spans = []
        for start, stop, cells, length in (
            (top, bottom, frame.shape[0], frame.size[1]),
            (left, right, frame.shape[1], frame.size[0]),
        ):
            scale = cells / length
            spans.append(slice(math.floor(start * scale + 1e-6), math.ceil(stop * scale - 1e-6)))
        return spans[0], spans[1]


def _ramp(cells: int) -> NDArray[np.float32]:
    """Rises from the edges to the middle, nowhere zero."""
    steps = np.arange(1, cells + 1)
    return np.minimum(steps, steps[::-1]).astype(np.float32)


def _resize(tile: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    if tile.shape == shape:
        return tile
    resized = Image.fromarray(tile).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)
