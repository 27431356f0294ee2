"""Five kinds of pseudo-anomalies, so that a choice made on them is not one of a single trick.

Each function takes a picture [H, W, 3] (float32, 0 to 255), another good picture and a random generator, and gives
the changed picture. What differs visibly afterwards is the mask.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from inpformer.images.pseudo.patch import patched
from inpformer.images.pseudo.perlin import perlin

Pixels = NDArray[np.float32]
Rng = np.random.Generator

VISIBLE = 10.0  # of 255: a pixel belongs to the anomaly from this change of a colour on
FEWEST = 2e-4  # share of the picture below which nothing is seen
MOST_TRIES = 100


def spoil(
    kind: str, image: Image.Image, other: Image.Image, rng: np.random.Generator
) -> tuple[Image.Image, NDArray[np.bool_]]:
    """`image` with an anomaly of that kind, and its mask [H, W]. Tries until something is seen.

    Raises ValueError if nothing is seen after many tries.
    """
    base = np.asarray(image.convert("RGB"), np.float32)
    for _ in range(MOST_TRIES):
        changed = np.clip(KINDS[kind](base, other, rng), 0, 255).round()
        seen = np.abs(changed - base).max(axis=-1) > VISIBLE
        # A fine pattern hardly differs here and there: without that, AUPRO would count each of its pieces.
        closing = max(1, min(seen.shape) // 64)
        mask = ndimage.binary_closing(np.pad(seen, closing), iterations=closing)[closing:-closing, closing:-closing]
        if mask.mean() > FEWEST:
            return Image.fromarray(changed.astype(np.uint8)), mask
    raise ValueError(f"no {kind} is visible on this picture")


def texture(base: Pixels, other: Image.Image, rng: Rng) -> Pixels:
    """A patch of another picture, recoloured: what tuning judges by."""
    turned = other.convert("RGB").rotate(90 * int(rng.integers(4)), expand=True)
    fill = np.asarray(turned.resize((base.shape[1], base.shape[0])), np.float32)[..., rng.permutation(3)]
    fill = np.clip((255 - fill if rng.random() < 0.5 else fill) + rng.uniform(-80, 80, 3), 0, 255)
    everywhere = np.ones(base.shape[:2], np.bool_)
    changed, _ = patched(base.astype(np.uint8), fill.astype(np.float32), everywhere, rng)
    return changed.astype(np.float32)


def misplaced(base: Pixels, other: Image.Image, rng: Rng) -> Pixels:
    """A piece of the picture itself, turned, in another place (as in CutPaste, Li et al. 2021)."""
    height, width = base.shape[:2]
    area, aspect = np.exp(rng.uniform(np.log(0.002), np.log(0.03))), np.exp(rng.uniform(-1.2, 1.2))
    high = int(np.clip(height * np.sqrt(area * aspect), 3, height - 1))
    wide = int(np.clip(width * np.sqrt(area / aspect), 3, width - 1))
    row, column = rng.integers(height - high), rng.integers(width - wide)
    piece = np.rot90(base[row : row + high, column : column + wide], int(rng.integers(4)))
    high, wide = min(piece.shape[0], height - 1), min(piece.shape[1], width - 1)
    row, column = rng.integers(height - high), rng.integers(width - wide)
    changed = base.copy()
    changed[row : row + high, column : column + wide] = piece[:high, :wide]
    return changed


def small(base: Pixels, other: Image.Image, rng: Rng) -> Pixels:
    """A few dots, or a scratch, darker or lighter."""
    height, width = base.shape[:2]
    unit = min(height, width) / 256
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    row, column = rng.uniform(0.1, 0.9) * height, rng.uniform(0.1, 0.9) * width
    if rng.random() < 0.5:
        distance = np.full((height, width), np.inf)
        for _ in range(rng.integers(1, 4)):
            radius = unit * rng.uniform(1.5, 5)
            at = np.array([row, column]) + unit * rng.uniform(-12, 12, 2)
            distance = np.minimum(distance, np.hypot(rows - at[0], columns - at[1]) - radius)
    else:
        angle, bend = rng.uniform(0, np.pi), rng.uniform(-0.01, 0.01) / unit
        along = (rows - row) * np.sin(angle) + (columns - column) * np.cos(angle)
        across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle) + bend * along**2
        ends = np.abs(along) - unit * rng.uniform(10, 50)
        distance = np.maximum(np.abs(across) - unit * rng.uniform(0.5, 2), ends)
    cover = np.clip(0.5 - distance / unit, 0, 1)[..., None]
    change = rng.uniform(25, 90) * rng.choice([-1, 1])
    return np.asarray(base + cover * change, np.float32)


def blended(base: Pixels, other: Image.Image, rng: Rng) -> Pixels:
    """A place that is lighter, darker or out of focus, without an edge."""
    blob = _blob(base.shape[:2], rng)
    if rng.random() < 0.5:
        return np.asarray(base * (1 + blob * rng.uniform(0.25, 0.6) * rng.choice([-1, 1])), np.float32)
    sigma = min(base.shape[:2]) / 256 * rng.uniform(2, 6)
    soft = ndimage.gaussian_filter(base, (sigma, sigma, 0))
    return np.asarray(base + blob * (soft - base), np.float32)


def warped(base: Pixels, other: Image.Image, rng: Rng) -> Pixels:
    """A place whose shapes are bent."""
    shape = base.shape[:2]
    blob = _blob(shape, rng)[..., 0]
    most = min(shape) / 256 * rng.uniform(4, 10)
    cells = 2 ** int(rng.integers(2, 4))
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    moved = [place + most * 2 * blob * perlin(shape, cells, rng) for place in (rows, columns)]
    bent = [ndimage.map_coordinates(base[..., colour], moved, order=1, mode="reflect") for colour in range(3)]
    return np.stack(bent, axis=-1).astype(np.float32)


def _blob(shape: tuple[int, int], rng: Rng) -> Pixels:
    """1 in a round place with soft edges, 0 elsewhere: [H, W, 1]."""
    rows, columns = np.linspace(0, 1, shape[0])[:, None], np.linspace(0, 1, shape[1])[None]
    row, column = rng.uniform(0.15, 0.85, 2)
    radii = np.exp(rng.uniform(np.log(0.04), np.log(0.18), 2))
    away = np.hypot((rows - row) / radii[0], (columns - column) / radii[1])
    return np.clip(1.5 - away, 0, 1).astype(np.float32)[..., None]


KINDS: dict[str, Callable[[Pixels, Image.Image, Rng], Pixels]] = {
    "texture": texture,
    "misplaced": misplaced,
    "small": small,
    "blended": blended,
    "warped": warped,
}
