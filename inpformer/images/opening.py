"""Opens pictures: the one place that gives bytes from outside to a decoder. Without torch, so that whoever only reads
files need not import it.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

from inpformer.errors import UserError
from inpformer.images.deep import DeepPicture, decode, is_deep

# No vector formats: Pillow hands PostScript to Ghostscript, whatever the file is called.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# 256 MB once decoded, of 16 bits a channel 512. A few bytes can claim far more than the size of their file suggests.
MAX_PIXELS = 64_000_000
# Longer than the strips of line-scan cameras (16 384×256 is 64:1). The encoder sees a square or tiles, and a picture
# of one row costs far more than its pixels: resizing takes 16 bytes for each pixel of a side, tiles are cut along it.
MAX_ASPECT = 100
# Ordinary progressive JPEGs have about ten. Each is a pass over all pixels, in a few bytes if it changes none: so many
# pixels take seconds.
MAX_SCANS, MAX_SCANNED = 100, 20 * MAX_PIXELS
# In a scan a byte 255 is never followed by this one. Other segments may hold both by chance: far fewer than MAX_SCANS.
START_OF_SCAN = b"\xff\xda"


class TooLargeError(UserError):
    """A picture that takes more work or memory than this program spends on one."""


def open_image(source: Path | bytes, name: str, white: int | None = None) -> Image.Image:
    """The first frame of an image file, decoded, in its own mode and as it lies in the file: EXIF's orientation is not
    applied. Of 16 bits a channel it is in 8, `white` being the value that becomes 255 (see `deep.levels`); without
    `white`, as of masks, deep pictures are refused. `source` is the file or its content, `name` what messages call it.

    Raises UserError for a file that is missing, damaged, in none of FORMATS, deeper than 8 bits a channel in another
    way than `deep.decode` takes, or more than MAX_ASPECT times as long as wide, and its subclass TooLargeError for more
    than MAX_PIXELS, in one scan of a JPEG or in all. What the file claims is checked before any pixel is decoded.
    """
    picture = _open(source, name, refuse_deep=white is None)
    if isinstance(picture, Image.Image):
        return picture
    assert white is not None
    return picture.eight_bits(white)


def open_as_it_is(source: Path | bytes, name: str) -> Image.Image | DeepPicture:
    """As `open_image`, but 16 bits a channel stay as they are. Raises the same."""
    return _open(source, name, refuse_deep=False)


def is_deep_file(content: bytes, name: str) -> bool:
    """Whether an image file has more than 8 bits a channel, by its header. Raises UserError if it is no image."""
    with _explained(name), _reader(content) as image:
        return is_deep(image)


def _open(source: Path | bytes, name: str, refuse_deep: bool) -> Image.Image | DeepPicture:
    content = source if isinstance(source, bytes) else read_file(source, name)
    with _explained(name), _reader(content) as image:
        deep = is_deep(image)
        if deep and refuse_deep:
            raise UserError(f"{name} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bit.")
        _refuse_size(image, name)
        if isinstance(image, JpegImageFile):
            _refuse_scans(content.count(START_OF_SCAN), image, name)
        if deep:
            return decode(image, content, lambda: _reader(content), name)
        image.load()
        return image


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Whatever Pillow raises becomes a UserError that names the file."""
    try:
        yield
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # Pillow's own limits are higher
        raise _too_many_pixels(name, "far too many") from None
    except UnidentifiedImageError:
        raise UserError(f"{name} is not an image in one of the formats {', '.join(FORMATS)}: convert it.") from None
    except Exception as error:  # damaged files make Pillow raise a dozen kinds, struct.error and TypeError among them
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise UserError(f"{name} is a damaged or truncated image ({reason}): replace it.") from None


def _reader(content: bytes) -> ImageFile:
    """What has read the header."""
    return Image.open(io.BytesIO(content), formats=FORMATS)


def read_file(file: Path, name: str) -> bytes:
    """The content of a file that messages call `name`. Raises UserError if it is missing or cannot be read."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{name} is missing: put it back.") from None
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror}): make it readable or remove it.") from None


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
