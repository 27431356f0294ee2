"""Opens pictures: the one place that gives bytes from outside to a decoder. Without torch, so that whoever only reads
files need not import it.
"""

import io
import re
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TILELENGTH, TILEWIDTH, TiffImageFile

from inpformer.errors import UserError

# No vector formats: Pillow hands PostScript to Ghostscript, whatever the file is called.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# 256 MB once decoded. A few bytes can claim far more than the size of their file suggests.
MAX_PIXELS = 64_000_000
# Longer than the strips of line-scan cameras (16 384×256 is 64:1). The encoder sees a square or tiles, and a picture
# of one row costs far more than its pixels: resizing takes 16 bytes for each pixel of a side, tiles are cut along it.
MAX_ASPECT = 100
# Ordinary progressive JPEGs have about ten. Each is a pass over all pixels, in a few bytes if it changes none: so many
# pixels take seconds.
MAX_SCANS, MAX_SCANNED = 100, 20 * MAX_PIXELS
# In a scan a byte 255 is never followed by this one. Other segments may hold both by chance: far fewer than MAX_SCANS.
START_OF_SCAN = b"\xff\xda"
# How Pillow calls 16 bits a channel, in big, little and native order; a BMP's "BGR;16" is 16 bits a pixel.
DEEP_CHANNELS = re.compile(r";16[BLN]")


class TooLargeError(UserError):
    """A picture that takes more work or memory than this program spends on one."""


def open_image(source: Path | bytes, name: str) -> Image.Image:
    """The first frame of an image file, decoded, in its own mode and as it lies in the file: EXIF's orientation is not
    applied. `source` is the file or its content, `name` what messages call it.

    Raises UserError for a file that is missing, damaged, in none of FORMATS, deeper than 8 bits a channel or more than
    MAX_ASPECT times as long as wide, and its subclass TooLargeError for more than MAX_PIXELS, in one scan of a JPEG
    or in all. What the file claims is checked before any pixel is decoded.
    """
    content = source if isinstance(source, bytes) else read_file(source, name)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if _is_deep(image):
                raise UserError(f"{name} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bit.")
            _refuse_size(image, name)
            if isinstance(image, JpegImageFile):
                _refuse_scans(content.count(START_OF_SCAN), image, name)
            image.load()
            return image
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # Pillow's own limits are higher
        raise _too_many_pixels(name, "far too many") from None
    except UnidentifiedImageError:
        raise UserError(f"{name} is not an image in one of the formats {', '.join(FORMATS)}: convert it.") from None
    except Exception as error:  # damaged files make Pillow raise a dozen kinds, struct.error and TypeError among them
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise UserError(f"{name} is a damaged or truncated image ({reason}): replace it.") from None


def read_file(file: Path, name: str) -> bytes:
    """The content of a file that messages call `name`. Raises UserError if it is missing or cannot be read."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{name} is missing: put it back.") from None
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror}): make it readable or remove it.") from None


def _is_deep(image: ImageFile) -> bool:
    """Whether it has more than 8 bits a channel, of which Pillow would clip grey above 255 to white and keep the high
    byte of colours. Loading forgets how they lay.
    """
    if image.mode.startswith(("I", "F")):
        return True
    if isinstance(image, TiffImageFile):  # its planes, where they lie apart, are called "R", however deep
        return int(max(image.tag_v2.get(BITSPERSAMPLE, (1,)))) > 8
    if isinstance(image, PpmImageFile):  # its own decoders are told the value of white
        return any(isinstance(tile.args, tuple) and tile.args[1] > 255 for tile in image.tile)
    return any(DEEP_CHANNELS.search(str(tile.args)) for tile in image.tile)


def _refuse_size(image: ImageFile, name: str) -> None:
    size = f"{image.width}×{image.height}"
    if image.width * image.height > MAX_PIXELS:
        raise _too_many_pixels(name, size)
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise UserError(f"{name} has {size} pixels: one side may be {MAX_ASPECT} times the other, crop it.")
    if isinstance(image, TiffImageFile) and TILEWIDTH in image.tag_v2:
        # A TIFF's tiles are decoded whole, and may be larger than the picture that they hold.
        tile = int(image.tag_v2[TILEWIDTH]), int(image.tag_v2.get(TILELENGTH, 0))
        if tile[0] * tile[1] > MAX_PIXELS:
            raise _too_many_pixels(name, f"tiles of {tile[0]}×{tile[1]}")


def _refuse_scans(scans: int, image: JpegImageFile, name: str) -> None:
    if scans > min(MAX_SCANS, MAX_SCANNED // (image.width * image.height)):
        raise TooLargeError(
            f"{name} has {scans:,} scans of {image.width}×{image.height} pixels: save it as a baseline JPEG."
        )


def _too_many_pixels(name: str, found: str) -> TooLargeError:
    return TooLargeError(f"{name} has {found} pixels: at most {MAX_PIXELS:,} are accepted.")
