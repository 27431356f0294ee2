"""What pseudo-anomalies are filled from: procedural textures, and pictures that are changed beyond recognition."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from inpformer.images.pseudo.perlin import Array, clouds

Size = tuple[int, int]  # rows, columns
WAVES = (2.0, 40.0)  # across the picture
GRAINS = (4, 96)  # along a side


def procedural(size: Size, rng: np.random.Generator) -> Array:
    """Clouds, waves or grains between two colours: [H, W, 3] of 0 to 255."""
    kind = KINDS[int(rng.integers(len(KINDS)))]
    level = kind(size, rng)[..., None]
    low, high = rng.uniform(0, 255, (2, 3)).astype(np.float32)
    return np.asarray(low + (high - low) * level, np.float32)


def _clouds(size: Size, rng: np.random.Generator) -> Array:
    return np.asarray(np.clip(0.5 + clouds(size, 2 ** int(rng.integers(1, 5)), 3, rng), 0, 1), np.float32)


def _waves(size: Size, rng: np.random.Generator) -> Array:
    angle, count = rng.uniform(0, np.pi), np.exp(rng.uniform(*np.log(WAVES)))
    y, x = np.linspace(0, 1, size[0])[:, None], np.linspace(0, 1, size[1])[None]
    bent = x * np.cos(angle) + y * np.sin(angle) + rng.uniform(0, 0.1) * clouds(size, 4, 1, rng)
    return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * count * bent), np.float32)


def _grains(size: Size, rng: np.random.Generator) -> Array:
    count = int(np.exp(rng.uniform(*np.log(GRAINS))))
    coarse = Image.fromarray(rng.uniform(0, 1, (count, count)).astype(np.float32))
    resampling = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR)[int(rng.integers(2))]
    return np.asarray(coarse.resize((size[1], size[0]), resampling), np.float32)


KINDS: tuple[Callable[[Size, np.random.Generator], Array], ...] = (_clouds, _waves, _grains)


def recoloured(texture: NDArray[np.uint8], size: Size, rng: np.random.Generator) -> Array:
    """A picture in another size, turned, mirrored, with its colours shuffled, inverted or shifted: [H, W, 3]."""
    turned = Image.fromarray(np.rot90(texture, int(rng.integers(4))))
    if rng.random() < 0.5:
        turned = ImageOps.mirror(turned)
    pixels = np.asarray(turned.resize((size[1], size[0]), Image.Resampling.BILINEAR), np.float32)
    pixels = pixels[..., rng.permutation(3)]
    if rng.random() < 0.5:
        pixels = 255 - pixels
    shift = rng.uniform(-80, 80, 3).astype(np.float32)
    return np.asarray(np.clip(pixels + shift, 0, 255), np.float32)
