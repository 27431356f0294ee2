"""A good picture with a foreign patch, and the patch's mask."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from inpformer.images.pseudo.perlin import Array
from inpformer.images.pseudo.regions import region

Picture: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]
OPACITY = (0.3, 1.0)
# Mean difference of the patch from what it covers, in grey levels: with less nobody could see it.
VISIBLE = 10.0


def patched(picture: Picture, fill: Array, inside: Mask, rng: np.random.Generator) -> tuple[Picture, Mask]:
    """`picture` with one region of `fill` [H, W, 3] where `inside` is true, and that region's mask.

    A grey picture gets a grey patch. What would hardly differ from the picture is taken lighter or darker, and opaque.
    """
    mask = region(inside, rng)
    base, opacity = picture[mask].astype(np.float32), rng.uniform(*OPACITY)
    patch = fill[mask]
    if (picture == picture[..., :1]).all():
        patch = np.broadcast_to(patch.mean(axis=-1, keepdims=True), patch.shape)
    if opacity * np.abs(patch - base).mean() < VISIBLE:
        patch, opacity = np.where(base > 127, base - 96, base + 96), 1.0
    changed = picture.copy()
    changed[mask] = ((1 - opacity) * base + opacity * patch).round().astype(np.uint8)
    return changed, mask
