"""From the masks of one image, whatever their layout puts into them, to one of 0 and 255."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops

from inpformer.images.layouts.sample import CLASS_NUMBERS


def union(masks: Sequence[Image.Image], level: int) -> Image.Image:
    """255 where any of the masks (at least one, all of one size) is above `level`, else 0; mode "L"."""
    # A palette's indices are the class numbers, its colours are for show.
    pixels = [np.asarray(m if m.mode == "P" and level == CLASS_NUMBERS else _opaque(m)) > level for m in masks]
    return Image.fromarray(np.where(np.any(pixels, axis=0), 255, 0).astype(np.uint8))


def _opaque(mask: Image.Image) -> Image.Image:
    """Grey on black: what is transparent is not marked."""
    if not mask.has_transparency_data:
        return mask.convert("L")
    coloured = mask.convert("RGBA")
    return ImageChops.multiply(coloured.convert("L"), coloured.getchannel("A"))
