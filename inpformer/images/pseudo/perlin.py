"""Gradient noise (Perlin, "An image synthesizer", 1985)."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def perlin(shape: tuple[int, int], cells: int, rng: np.random.Generator) -> Array:
    """Noise [H, W] of about ±1, `cells` cells along each side."""
    angles = rng.uniform(0, 2 * np.pi, (cells + 1, cells + 1))
    gradients = np.stack([np.sin(angles), np.cos(angles)], axis=-1).astype(np.float32)
    places = [np.linspace(0, cells, length, endpoint=False, dtype=np.float32) for length in shape]
    rows, columns = (place.astype(int) for place in places)
    y, x = (places[0] - rows)[:, None], (places[1] - columns)[None]

    def pull(down: int, right: int) -> Array:
        gradient = gradients[(rows + down)[:, None], (columns + right)[None]]
        return np.asarray(gradient[..., 0] * (y - down) + gradient[..., 1] * (x - right))

    fade_y, fade_x = (6 * t**5 - 15 * t**4 + 10 * t**3 for t in (y, x))
    top = pull(0, 0) * (1 - fade_x) + pull(0, 1) * fade_x
    bottom = pull(1, 0) * (1 - fade_x) + pull(1, 1) * fade_x
    return np.asarray(np.sqrt(2) * (top * (1 - fade_y) + bottom * fade_y), np.float32)


def clouds(shape: tuple[int, int], cells: int, octaves: int, rng: np.random.Generator) -> Array:
    """Noise [H, W] of about ±1 with detail: each octave has twice the cells of the one before, and half its height."""
    parts = [perlin(shape, cells * 2**octave, rng) / 2**octave for octave in range(octaves)]
    return np.asarray(np.sum(parts, axis=0), np.float32)
