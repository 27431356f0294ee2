"""A good picture with a real defect of another picture, and its mask: learning from a few real defects."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from inpformer.images.pseudo.patch import Mask, Picture

SCALE = (0.7, 1.4)
BRIGHTNESS, CONTRAST = 20.0, (0.8, 1.2)
MARGIN = 0.15  # of the defect's own size, in which it fades into the picture
ATTEMPTS = 20  # of finding a place where most of the defect lies on the object
MOST_OFF = 0.2  # of its pixels may lie beside it


def pasted(
    picture: Picture, defective: Picture, defect: Mask, inside: Mask, rng: np.random.Generator
) -> tuple[Picture, Mask]:
    """`picture` with the `defect` of another picture of the same size, turned, mirrored, scaled, lighter or darker, at
    a place where `inside` is true, and its mask there. `defect` has a pixel at least.
    """
    patch, shape = _cut(defective, defect, rng)
    top, left = _place(shape, inside, rng)
    rows, columns = slice(top, top + shape.shape[0]), slice(left, left + shape.shape[1])
    # It fades outwards: a hard edge would be what is learnt.
    width = max(1.0, MARGIN * np.sqrt(shape.sum()))
    opacity = np.clip(1 - ndimage.distance_transform_edt(~shape) / width, 0, 1)[..., None]
    changed, mask = picture.copy(), np.zeros(picture.shape[:2], np.bool_)
    changed[rows, columns] = ((1 - opacity) * picture[rows, columns] + opacity * patch).round().astype(np.uint8)
    mask[rows, columns] = shape
    return changed, mask


def _cut(defective: Picture, defect: Mask, rng: np.random.Generator) -> tuple[NDArray[np.float32], Mask]:
    """The defect with a margin, changed, smaller than its picture: [h, w, 3] and its mask [h, w]."""
    height, width = defect.shape
    across, down = np.flatnonzero(defect.any(axis=0)), np.flatnonzero(defect.any(axis=1))
    margin = int(np.ceil(MARGIN * np.sqrt(defect.sum())))
    rows = slice(max(0, down[0] - margin), down[-1] + 1 + margin)
    columns = slice(max(0, across[0] - margin), across[-1] + 1 + margin)
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    patch, shape = (np.rot90(a[rows, columns], turns) for a in (defective, defect))
    if mirrored:
        patch, shape = patch[:, ::-1], shape[:, ::-1]
    scale = np.exp(rng.uniform(*np.log(SCALE)))
    size = tuple(
        max(1, min(round(scale * side), most)) for side, most in zip(shape.shape, (height, width), strict=True)
    )
    resized = Image.fromarray(np.ascontiguousarray(patch)).resize(size[::-1], Image.Resampling.BILINEAR)
    small = Image.fromarray(np.ascontiguousarray(shape)).resize(size[::-1], Image.Resampling.NEAREST)
    pixels, kept = np.asarray(resized, np.float32), np.asarray(small, np.bool_)
    if not kept.any():  # a pixel or two that scaling lost
        kept = np.ones(size, np.bool_)
    changed = (pixels - pixels.mean()) * rng.uniform(*CONTRAST) + pixels.mean() + rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    return np.clip(changed, 0, 255), kept


def _place(shape: Mask, inside: Mask, rng: np.random.Generator) -> tuple[int, int]:
    """Top and left of the defect: of some places the first that is on the object, else the best of them."""
    height, width = shape.shape
    best, place = np.inf, (0, 0)
    for _ in range(ATTEMPTS):
        top, left = (int(rng.integers(most - side + 1)) for most, side in zip(inside.shape, shape.shape, strict=True))
        off = float(1 - inside[top : top + height, left : left + width][shape].mean())
        if off < best:
            best, place = off, (top, left)
        if best <= MOST_OFF:
            break
    return place
