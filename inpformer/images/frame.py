"""Where on its image an anomaly map lies: the way between the map's pixels and the image's."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

# Anomaly maps and the masks that they are held against have this side, in pixels.
MAP_SIZE = 256
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Frame:
    """A map of `shape` (rows, columns) lies over `area` (left, top, right, bottom, in pixels, not always whole) of
    an image of `size` (width, height).
    """

    size: tuple[int, int]
    area: tuple[float, float, float, float]
    shape: tuple[int, int]

    @property
    def pixel_area(self) -> float:
        """How many of the image's pixels one of the map's covers."""
        left, top, right, bottom = self.area
        return (right - left) * (bottom - top) / (self.shape[0] * self.shape[1])

    @property
    def box(self) -> Box:
        """The whole map's, in whole pixels of the image."""
        return self.box_in_image((0, 0, self.shape[1], self.shape[0]))

    def box_in_image(self, box: Box) -> Box:
        """A box on the map in pixels of the image; right and bottom exclusive, rounded outwards."""
        left, top, right, bottom = self.area
        scales = ((right - left) / self.shape[1], (bottom - top) / self.shape[0])
        sides = []
        for number, edge in enumerate(box):
            axis = number % 2
            pixel = (left, top)[axis] + edge * scales[axis]
            whole = np.floor(pixel + 1e-6) if number < 2 else np.ceil(pixel - 1e-6)
            sides.append(min(self.size[axis], max(0, int(whole))))
        return sides[0], sides[1], sides[2], sides[3]

    def point_in_image(self, row: int, column: int) -> tuple[float, float]:
        """Where the upper left corner of a pixel of the map lies, (x, y) in pixels of the image."""
        left, top, right, bottom = self.area
        x = left + column * (right - left) / self.shape[1]
        y = top + row * (bottom - top) / self.shape[0]
        return min(max(x, 0.0), float(self.size[0])), min(max(y, 0.0), float(self.size[1]))

    def visible(self, image: Image.Image) -> Image.Image:
        """The part of the picture that the map lies over, as RGB in the map's own size."""
        size = (self.shape[1], self.shape[0])
        return image.convert("RGB").resize(size, Image.Resampling.BILINEAR, box=self.area)
