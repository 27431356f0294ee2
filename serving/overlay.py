"""Anomaly maps as pictures, of one scale for all: a colour means the same share of the threshold on every picture."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from inpformer.images.frame import Frame
from inpformer.judging.regions import Region

LONGEST_SIDE, SMALL_SIDE = 1024, 512  # of an overlay, and of an example
OPACITY = 0.7
RED = (179, 38, 30)


def map_png(anomaly_map: NDArray[np.float32], threshold: float) -> str:
    """An anomaly map [H, W] as a base64 PNG: 0 is 0, 255 is twice the threshold or more."""
    return _base64(_png(Image.fromarray(_levels(anomaly_map, threshold))))


def small_png(image: Image.Image) -> bytes:
    """A picture of up to SMALL_SIDE pixels a side, as the content of a PNG."""
    shown = image.convert("RGB")
    shown.thumbnail((SMALL_SIDE, SMALL_SIDE))
    return _png(shown)


def overlay_png(
    image: Image.Image, anomaly_map: NDArray[np.float32], threshold: float, regions: Sequence[Region], frame: Frame
) -> str:
    """The part of a picture that its map lies over, in colour, with boxes around regions, as a base64 PNG of up to
    LONGEST_SIDE pixels a side: nothing at 0, orange at the threshold, red at twice the threshold or more.
    """
    left, top, right, bottom = frame.box
    scale = min(1.0, LONGEST_SIDE / max(right - left, bottom - top))
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    colours = image if image.mode == "RGB" else image.convert("RGB")  # no copy: it may have 64 million pixels
    seen = colours.resize(size, Image.Resampling.BILINEAR, box=frame.box)
    levels = Image.fromarray(_levels(anomaly_map, threshold)).resize(size, Image.Resampling.BILINEAR)
    zero = Image.new("L", size, 0)
    colour = Image.merge("RGB", (Image.new("L", size, 255), levels.point(lambda level: 255 - level), zero))
    shown = Image.composite(colour, seen, levels.point(lambda level: round(OPACITY * level)))
    draw = ImageDraw.Draw(shown)
    for region in regions:
        corners = [(edge - start) * scale for edge, start in zip(region.box, (left, top, left, top), strict=True)]
        draw.rectangle(tuple(corners), outline=RED, width=max(2, max(size) // 200))
    return _base64(_png(shown))


def _levels(anomaly_map: NDArray[np.float32], threshold: float) -> NDArray[np.uint8]:
    ceiling = max(2 * threshold, float(np.finfo(np.float32).tiny))
    levels = np.clip(anomaly_map, 0, ceiling)
    levels /= ceiling  # in place, as the map of a large image takes 268 MB
    levels *= 255
    return np.rint(levels, out=levels).astype(np.uint8)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
