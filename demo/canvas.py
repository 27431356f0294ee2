"""What the scenes of the demo data are drawn with: anti-aliased shapes in scene coordinates, and smooth noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Field = npt.NDArray[np.floating[Any]]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Canvas:
    """A picture in progress; lengths are fractions of the image's side, the origin is the scene's middle.

    `x` and `y` (rows, columns) are the scene coordinates of the pixels, y downwards: the camera's shift, turn
    and scale are in them, so that nothing is resampled. `colour` (3, rows, columns) runs from 0 black to
    1 white and is painted in place. `pixel` is the side of a pixel.
    """

    x: Field
    y: Field
    colour: Field
    pixel: float

    def around(self, x: float, y: float, reach: float, angle: float = 0.0) -> "Canvas":
        """A view of what is within `reach` of a point, in a frame at that point turned by `angle` (radians)."""
        origin = np.array((self.x[0, 0], self.y[0, 0]), np.float64)
        down = np.array((self.x[1, 0], self.y[1, 0])) - origin
        right = np.array((self.x[0, 1], self.y[0, 1])) - origin
        row, column = np.linalg.solve(np.stack((down, right), axis=1), np.array((x, y)) - origin)
        half = reach / self.pixel + 1
        part = tuple(slice(max(0, int(at - half)), max(0, int(at + half) + 1)) for at in (row, column))
        dx, dy = self.x[part] - np.float32(x), self.y[part] - np.float32(y)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return Canvas(cos * dx + sin * dy, cos * dy - sin * dx, self.colour[:, *part], self.pixel)

    def cover(self, distance: Field, soft: float = 0.0) -> Field:
        """Coverage 0 to 1 from the signed distance to an outline (negative inside), blurred over `soft`."""
        coverage: Field = np.clip(0.5 - distance / (self.pixel + soft), 0, 1)
        return coverage

    def disc(self, radius: float, x: float = 0.0, y: float = 0.0, soft: float = 0.0) -> Field:
        """Coverage of a disc."""
        return self.cover(np.sqrt((self.x - x) ** 2 + (self.y - y) ** 2) - radius, soft)

    def box(
        self,
        width: float,
        height: float,
        x: float = 0.0,
        y: float = 0.0,
        corner: float = 0.0,
        soft: float = 0.0,
    ) -> Field:
        """Coverage of a rectangle with rounded corners, given by its middle."""
        right, down = np.abs(self.x - x) - width / 2 + corner, np.abs(self.y - y) - height / 2 + corner
        outside = np.sqrt(np.maximum(right, 0) ** 2 + np.maximum(down, 0) ** 2)  # much faster than hypot
        return self.cover(outside + np.minimum(np.maximum(right, down), 0) - corner, soft)

    def stroke(self, points: Sequence[tuple[float, float]] | Field, width: float, soft: float = 0.0) -> Field:
        """Coverage of a line with round ends through `points` (k, 2)."""
        squared = np.full(self.x.shape, np.inf, np.float32)
        ends = np.asarray(points, np.float32)
        for (x0, y0), (x1, y1) in pairwise(ends):
            dx, dy = x1 - x0, y1 - y0
            x, y = self.x - x0, self.y - y0
            along = np.clip((x * dx + y * dy) / (dx * dx + dy * dy), 0, 1)
            np.minimum(squared, (x - along * dx) ** 2 + (y - along * dy) ** 2, out=squared)
        return self.cover(np.sqrt(squared) - width / 2, soft)

    def blob(self, rng: np.random.Generator, radius: float, rough: float = 0.12) -> Field:
        """Signed distance (about) to a closed irregular outline around the origin."""
        theta = np.arctan2(self.y, self.x)
        outline = np.ones_like(theta)
        for lobes in range(2, 8):
            outline += rng.normal(0, 2.5 * rough / lobes**1.4) * np.cos(lobes * theta + rng.uniform(0, 2 * np.pi))
        return np.hypot(self.x, self.y) - radius * np.maximum(outline, 0.35)

    def paint(self, coverage: Field, colour: Colour | Field) -> None:
        """Lays an opaque colour, even or a `tint` (3, rows, columns), over what is there, where covered."""
        for plane, value in zip(self.colour, colour, strict=True):
            plane += coverage * (value - plane)

    def shade(self, coverage: Field, factor: float | Colour) -> None:
        """Multiplies what is there by `factor`, where covered: a shadow, a glint, a stain."""
        for plane, by in zip(self.colour, factor if isinstance(factor, tuple) else 3 * (factor,), strict=True):
            plane *= 1 + coverage * (by - 1)


def tint(colour: Colour, tone: Field) -> Field:
    """A colour (3, rows, columns) that varies in brightness by `tone` (rows, columns)."""
    return np.stack([np.float32(value) * tone for value in colour])


def noise(rng: np.random.Generator, shape: tuple[int, ...], cells: tuple[int, int]) -> Field:
    """Smooth noise of about unit strength: (rows, columns) values interpolated from a grid of `cells`."""
    grid = Image.fromarray(rng.standard_normal(cells, np.float32))
    return np.asarray(grid.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def bezier(points: Sequence[tuple[float, float]] | Field, count: int = 11) -> Field:
    """A Bézier curve by its control points (k, 2), as the points of a stroke (count, 2)."""
    curve = np.repeat(np.asarray(points, np.float32)[None], count, axis=0)
    t = np.linspace(0, 1, count, dtype=np.float32)[:, None, None]
    while curve.shape[1] > 1:
        curve = curve[:, :-1] + t * (curve[:, 1:] - curve[:, :-1])
    return curve[:, 0]
