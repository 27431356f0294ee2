"""Where a pseudo-anomaly lies, and what shape it has."""

import numpy as np
from numpy.typing import NDArray

from inpformer.images.pseudo.perlin import perlin

# Share of the picture that a region covers: from a scratch to a large stain; of the object, at most so much.
SMALLEST, LARGEST, MOST_OF_OBJECT = 0.002, 0.08, 0.5
# Cells of the noise along the picture's side, as powers of two.
COARSEST, FINEST = 1, 4
LONGEST = 8.0  # times as long as wide


def region(inside: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """The highest part of a noise field, of a random size, shape and place where `inside` [H, W] is true: a
    connected-looking region, or a few.
    """
    shape = inside.shape
    noise = perlin((shape[0], shape[1]), 2 ** int(rng.integers(COARSEST, FINEST + 1)), rng)
    # Around one place: elsewhere the noise counts less, so that the region is not scattered over the picture.
    places = np.flatnonzero(inside)
    row, column = divmod(int(places[rng.integers(len(places))]), shape[1])
    y = (np.arange(shape[0]) - row)[:, None] / shape[0]
    x = (np.arange(shape[1]) - column)[None] / shape[1]
    angle, long = rng.uniform(0, np.pi), np.exp(rng.uniform(0, np.log(LONGEST)))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    field = np.where(inside, noise - 2 * np.hypot(along / np.sqrt(long), across * np.sqrt(long)), -np.inf)
    share = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))
    count = max(1, round(min(share * inside.size, MOST_OF_OBJECT * len(places))))
    bound = np.partition(field, field.size - count, axis=None)[field.size - count]
    return np.asarray(field >= bound)
