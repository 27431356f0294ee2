"""From the masks of one image, whatever their layout puts into them, to one of 0 and 255."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from inpformer.images.layouts.sample import CLASS_NUMBERS


def union(masks: Sequence[Image.Image], level: int) -> Image.Image:
    """255 where any of the masks (at least one, all of one size) is above `level`, else 0; mode "L"."""
    pixels = [values(mask, level) > level for mask in masks]
    return Image.fromarray(np.where(np.any(pixels, axis=0), 255, 0).astype(np.uint8))


def values(mask: Image.Image, level: int) -> NDArray[np.uint8]:
    """What a mask's pixels hold, [rows, columns]: grey, or class numbers if that is what `level` is for."""
    # A palette's indices are the class numbers, its colours are for show.
    return np.asarray(mask if mask.mode == "P" and level == CLASS_NUMBERS else _opaque(mask))


def _opaque(mask: Image.Image) -> Image.Image:
    """Grey on black: what is transparent is not marked."""
    if not mask.has_transparency_data:
        return mask.convert("L")
    coloured = mask.convert("RGBA")
    return ImageChops.multiply(coloured.convert("L"), coloured.getchannel("A"))
