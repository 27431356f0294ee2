"""Pseudo-anomalies: good images with a patch of something foreign, and its mask, made without any defective image.

After DRAEM (Zavrtanik, Kristan and Skočaj, "DRAEM: a discriminatively trained reconstruction embedding for surface
anomaly detection", ICCV 2021): a region is cut out of Perlin noise and filled from a texture, more or less opaque.
Textures here are other images of the same data, turned and recoloured, so nothing is downloaded.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Array = NDArray[np.float32]

# Share of the image that a region covers: from a scratch to a large stain.
SMALLEST, LARGEST = 0.002, 0.08
OPACITY = (0.3, 1.0)
# Cells of the coarsest noise along the image's side, as powers of two.
COARSEST, FINEST = 1, 4


def pseudo_anomaly(
    image: Image.Image, texture: Image.Image, rng: np.random.Generator
) -> tuple[Image.Image, NDArray[np.bool_]]:
    """`image` with one foreign region, as RGB in its own size, and the region's mask [H, W].

    The same generator state gives the same result. `texture` is any image, such as another good one.
    """
    base = np.asarray(image.convert("RGB"), np.float32)
    mask = _region(base.shape[:2], rng)
    fill = _recoloured(texture, image.size, rng)
    opacity = rng.uniform(*OPACITY)
    mixed = np.where(mask[..., None], (1 - opacity) * base + opacity * fill, base)
    return Image.fromarray(mixed.round().astype(np.uint8)), mask


def _region(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """The highest part of a noise field: a connected-looking region, or a few, of a random total size."""
    noise = perlin(shape, 2 ** int(rng.integers(COARSEST, FINEST + 1)), rng)
    share = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))
    # Around one place: elsewhere the noise counts less, so that the region is not scattered over the image.
    row, column = rng.uniform(0.1, 0.9, 2)
    rows, columns = np.linspace(0, 1, shape[0])[:, None], np.linspace(0, 1, shape[1])[None]
    distance = np.hypot(rows - row, columns - column)
    field = noise - 2 * distance
    return np.asarray(field >= np.quantile(field, 1 - share))


def perlin(shape: tuple[int, int], cells: int, rng: np.random.Generator) -> Array:
    """Gradient noise [H, W] of about ±1, `cells` cells along each side (Perlin, "An image synthesizer", 1985)."""
    angles = rng.uniform(0, 2 * np.pi, (cells + 1, cells + 1))
    gradients = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    places = [np.linspace(0, cells, length, endpoint=False) for length in shape]
    corner = [place.astype(int) for place in places]
    inside = [place - start for place, start in zip(places, corner, strict=True)]
    rows, columns = np.meshgrid(*corner, indexing="ij")
    y, x = np.meshgrid(*inside, indexing="ij")

    def pull(down: int, right: int) -> NDArray[np.float64]:
        gradient = gradients[rows + down, columns + right]
        return np.asarray(gradient[..., 0] * (y - down) + gradient[..., 1] * (x - right))

    fade_y, fade_x = (6 * t**5 - 15 * t**4 + 10 * t**3 for t in (y, x))
    top = pull(0, 0) * (1 - fade_x) + pull(0, 1) * fade_x
    bottom = pull(1, 0) * (1 - fade_x) + pull(1, 1) * fade_x
    return np.asarray(np.sqrt(2) * (top * (1 - fade_y) + bottom * fade_y), np.float32)


def _recoloured(texture: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> Array:
    """The texture in another size, turned, mirrored, with its colours shuffled, inverted or shifted: [H, W, 3]."""
    turned = texture.convert("RGB").rotate(90 * int(rng.integers(4)), expand=True)
    if rng.random() < 0.5:
        turned = ImageOps.mirror(turned)
    pixels = np.asarray(turned.resize(size, Image.Resampling.BILINEAR), np.float32)
    pixels = pixels[..., rng.permutation(3)]
    if rng.random() < 0.5:
        pixels = 255 - pixels
    shift = rng.uniform(-80, 80, 3).astype(np.float32)
    return np.asarray(np.clip(pixels + shift, 0, 255), np.float32)
