"""From a scene to a photograph: how a product lies below the camera, light, lens and sensor; and what two differ in."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from demo.canvas import Canvas, Field, tint

OVERSAMPLING = 2  # canvas pixels a side of an image pixel
VISIBLE = 0.03  # a pixel belongs to the defect from this change of a colour on, before noise; white is 1
# How exactly a product is laid: shift as a fraction of the side, turn in radians, relative scale, the most either way.
Sway = tuple[float, float, float]


def lay(rng: np.random.Generator, size: int, sway: Sway) -> Canvas:
    """An empty canvas (OVERSAMPLING x size a side) on a product that lies a little differently each time."""
    shift, turn, scale = (most * rng.uniform(-1, 1, n) for most, n in zip(sway, (2, 1, 1), strict=True))
    side = OVERSAMPLING * size
    at = (1 + scale) * ((np.arange(side) + 0.5) / side - 0.5)
    right, down = np.meshgrid(at, at)
    x = np.cos(turn) * right - np.sin(turn) * down + shift[0]
    y = np.sin(turn) * right + np.cos(turn) * down + shift[1]
    colour = np.zeros((3, side, side), np.float32)
    return Canvas(x.astype(np.float32), y.astype(np.float32), colour, 1 / side)


def pooled(canvas: Canvas) -> Field:
    """What the pixels of the image see: (3, size, size)."""
    steps = [slice(start, None, OVERSAMPLING) for start in range(OVERSAMPLING)]
    picture: Field = np.mean([canvas.colour[:, r, c] for r in steps for c in steps], axis=0)
    return picture


def changed(picture: Field, clean: Field) -> npt.NDArray[np.bool_]:
    """Where a defect changes a picture (3, size, size): (size, size)."""
    mask = np.abs(picture - clean).max(axis=0) > VISIBLE
    # a pixel inside the defect may happen to keep its colour
    filled = ndimage.binary_closing(mask, iterations=max(1, mask.shape[0] // 128)) | mask
    return np.asarray(ndimage.binary_fill_holes(filled))


def develop(picture: Field, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Light, lens and sensor: a picture (3, size, size) of the scene becomes an 8-bit photograph (size, size, 3)."""
    side = np.linspace(-0.5, 0.5, picture.shape[-1], dtype=np.float32)
    slope, warmth = rng.uniform(-0.12, 0.12, 2), rng.uniform(-0.03, 0.03)
    light = rng.uniform(0.9, 1.1) * (1 + side[:, None] * float(slope[0]) + side * float(slope[1]))
    picture = picture * tint((1 + warmth, 1, 1 - warmth), light)
    blurred = ndimage.gaussian_filter(picture, rng.uniform(0.25, 0.6), axes=(1, 2))
    grain = rng.uniform(0.006, 0.012) * rng.standard_normal(picture.shape, np.float32)
    noisy = blurred + grain * np.sqrt(0.3 + blurred)
    return np.asarray(np.round(255 * np.clip(noisy, 0, 1)).transpose(1, 2, 0), np.uint8)
