"""Where on a picture its object is, so that a made-up defect lies on that and not beside it."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

SIDE = 128  # pixels that it is looked for in
RING = 4  # of them along the edge are taken for background
SMALLEST, LARGEST = 0.05, 0.9  # share of the picture that an object covers
MOST_OF_RING = 0.1  # of the edge may belong to the object
LEAST_OF_ALL = 0.01  # smaller pieces are dirt
# Share of the variance of the distances from the background that two classes must explain (Otsu 1979).
SEPARABLE = 0.7


def foreground(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """[H, W, 3] to [H, W]: true on the object; everywhere, where no object stands before an even background.

    The background is what has the colour of the picture's edge: Otsu's threshold of the distance from the edge's median
    colour, holes filled. It is believed if the edge is nearly free of the object, the object is neither tiny nor all of
    the picture, and the two differ clearly.
    """
    height, width = picture.shape[:2]
    small = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    ring = np.ones((SIDE, SIDE), bool)
    ring[RING:-RING, RING:-RING] = False
    distance = np.linalg.norm(small - np.median(small[ring], axis=0), axis=-1)
    bound, explained = otsu(distance)
    found = ndimage.binary_fill_holes(ndimage.binary_opening(distance > bound, iterations=1))
    labels, count = ndimage.label(found)
    sizes = ndimage.sum_labels(found, labels, np.arange(1, count + 1))
    found = np.isin(labels, 1 + np.flatnonzero(sizes >= LEAST_OF_ALL * found.size))
    believed = explained >= SEPARABLE and SMALLEST <= found.mean() <= LARGEST and found[ring].mean() <= MOST_OF_RING
    if not believed:
        return np.ones((height, width), np.bool_)
    return np.asarray(Image.fromarray(found).resize((width, height), Image.Resampling.NEAREST), np.bool_)


def otsu(values: NDArray[np.float32]) -> tuple[float, float]:
    """The bound between two classes of values that explains most of their variance, and the share that it explains: 0
    where all values are one.
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    count, total = np.arange(1, ordered.size), np.cumsum(ordered)
    below, above = total[:-1] / count, (total[-1] - total[:-1]) / (ordered.size - count)
    between = count * (ordered.size - count) * (above - below) ** 2 / ordered.size**2
    variance = float(ordered.var())
    best = int(between.argmax())
    return float(ordered[best]), float(between[best]) / variance if variance else 0.0
