"""Pictures of 16 bits a channel: which are read exactly, and what their values are in 8 bits.

Cameras of 10, 12 and 14 bits save their values in 16, so that a file does not say which of them is white: `white` does.
A picture's own largest value never does: two pictures of one part would no longer be comparable. With Pillow alone, as
whoever decodes for the service may take little memory.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    FILLORDER,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    TiffImageFile,
)

from inpformer.errors import UserError

WHITE = 65535  # the default: a camera that uses all 16 bits
FEWEST, VALUES = 255, 65536
# How Pillow calls 16 bits a channel, in big, little and native order; a BMP's "BGR;16" is 16 bits a pixel.
DEEP_CHANNELS = re.compile(r";16[BLN]")
# Of colours Pillow keeps the high byte alone: in the other order that is the low one.
OTHER_ORDER = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B" if sys.byteorder == "little" else "RGB;16L",
}
GREY_TIFF, COLOUR_TIFF = 1, 2  # photometric interpretations: black is 0, RGB
PIXELS_AT_A_TIME = 2**22


@dataclass(frozen=True)
class DeepPicture:
    """A decoded picture of 16 bits a channel. `planes` are one of grey values, or the high and the low bytes of RGB."""

    planes: Sequence[Image.Image]
    exif: bytes | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.planes[0].size

    @property
    def largest(self) -> int:
        """The largest value of any channel."""
        return max(int(values.getextrema()[1]) for _, values in self._bands())  # type: ignore[arg-type]

    def eight_bits(self, white: int) -> Image.Image:
        """In mode L or RGB, each value as `levels` has it."""
        table, colours = levels(white), len(self.planes) > 1
        image = Image.new("RGB" if colours else "L", self.size)
        for box, values in self._bands():
            small = values.point(table, "L")
            if colours:
                small = Image.frombytes("RGB", (small.width // 3, small.height), small.tobytes())
            image.paste(small, box)
        if self.exif is not None:
            image.info["exif"] = self.exif
        return image

    def _bands(self) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
        """Some rows at a time, where they lie and their values in mode I: all at once would take far more memory. The
        channels of a colour lie side by side.
        """
        width, height = self.size
        rows = max(1, PIXELS_AT_A_TIME // width)
        for top in range(0, height, rows):
            box = (0, top, width, min(top + rows, height))
            parts = [plane.crop(box) for plane in self.planes]
            if len(parts) == 1:
                yield box, parts[0].convert("I")
                continue
            side = (3 * width, box[3] - top)
            high, low = (Image.frombytes("L", side, part.tobytes()) for part in parts)
            yield box, Image.frombytes("I;16", side, Image.merge("LA", (low, high)).tobytes()).convert("I")


@lru_cache(maxsize=4)
def levels(white: int) -> Sequence[int]:
    """What becomes of each of the 65536 values v of a channel: round(255·min(v, white)/white), halves up."""
    return [(2 * 255 * min(value, white) + white) // (2 * white) for value in range(VALUES)]


def is_deep(image: ImageFile) -> bool:
    """Whether it has more than 8 bits a channel, of which Pillow would clip grey above 255 to white and keep the high
    byte of colours. To be asked before it is loaded, which forgets how they lay.
    """
    if image.mode.startswith(("I", "F")):
        return True
    if isinstance(image, TiffImageFile):  # its planes, where they lie apart, are called "R", however deep
        return int(max(image.tag_v2.get(BITSPERSAMPLE, (1,)))) > 8
    if isinstance(image, PpmImageFile):  # its own decoders are told the value of white
        return any(isinstance(tile.args, tuple) and tile.args[1] > 255 for tile in image.tile)
    return any(DEEP_CHANNELS.search(_raw_mode(tile.args)) for tile in image.tile)


def decode(image: ImageFile, content: bytes, again: Callable[[], ImageFile], name: str) -> DeepPicture:
    """The values of a deep picture as they lie in the file; `again` opens its `content` once more.

    Raises UserError for one that is not read exactly: signed or of more bits or fewer, with transparency, CMYK or a
    palette, white on black, its planes apart, a plain PPM.
    """
    if isinstance(image, PpmImageFile):
        planes = _ppm(image, content)
    elif isinstance(image, PngImageFile):
        planes = _planes(image, again, grey=("I;16B",))
    elif isinstance(image, TiffImageFile):
        planes = _tiff(image, again)
    else:
        planes = None
    if planes is None:
        raise UserError(
            f"{name} has more than 8 bits a channel, but not 16 without a sign, in grey or RGB, without transparency "
            f"(mode {image.mode}): save it as a PNG that has, or in 8 bit."
        )
    return DeepPicture(planes, image.info.get("exif"))


def _ppm(image: PpmImageFile, content: bytes) -> Sequence[Image.Image] | None:
    """Pillow would scale by the maximum that the file states."""
    if content.startswith(b"P5"):
        pixel, read = 2, [("I;16", "I;16B")]
    elif content.startswith(b"P6"):
        pixel, read = 6, [("RGB", "RGB;16B"), ("RGB", "RGB;16L")]
    else:
        return None
    start = image.tile[0].offset
    values = memoryview(content)[start : start + image.width * image.height * pixel]
    return [Image.frombytes(mode, image.size, values, "raw", raw) for mode, raw in read]


def _tiff(image: TiffImageFile, again: Callable[[], ImageFile]) -> Sequence[Image.Image] | None:
    tags = image.tag_v2
    kind = GREY_TIFF if image.mode.startswith("I") else COLOUR_TIFF  # Pillow would not turn white on black round
    if tags.get(PHOTOMETRIC_INTERPRETATION) != kind or tags.get(FILLORDER, 1) != 1:
        return None
    if tags.get(PLANAR_CONFIGURATION, 1) != 1:
        return None
    return _planes(image, again, grey=("I;16", "I;16B", "I;16N"))


def _planes(image: ImageFile, again: Callable[[], ImageFile], grey: Sequence[str]) -> Sequence[Image.Image] | None:
    raw = _raw_mode(image.tile[0].args)
    if image.mode in ("I;16", "I;16B") and raw in grey:
        image.load()
        return [image]
    if image.mode != "RGB" or raw not in OTHER_ORDER:
        return None
    image.load()
    with again() as low:
        low.tile = [tile._replace(args=_with_raw_mode(tile.args, OTHER_ORDER[raw])) for tile in low.tile]
        low.load()
    return [image, low]


def _raw_mode(args: object) -> str:
    """How the pixels of a tile lie in the file: the decoder's first argument."""
    return str(args[0] if isinstance(args, tuple) else args)


def _with_raw_mode(args: tuple[Any, ...] | str | None, raw: str) -> tuple[Any, ...] | str:
    return (raw, *args[1:]) if isinstance(args, tuple) else raw
