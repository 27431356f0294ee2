"""How many bits a picture may have a channel: without torch, so that whoever only reads files need not import it."""

import re

from PIL.ImageFile import ImageFile

from inpformer.errors import UserError

# How Pillow calls 16 bits a channel, in big, little and native order; a BMP's "BGR;16" is 16 bits a pixel.
DEEP_CHANNELS = re.compile(r";16[BLN]")


def refuse_deep(image: ImageFile, name: str) -> None:
    """Raises UserError if a picture has more than 8 bits a channel: Pillow would clip grey above 255 to white and keep
    the high byte of colours. To be called before the picture is loaded, as loading forgets how it was stored.
    """
    stored = " ".join(str(tile.args) for tile in image.tile)
    if image.mode.startswith(("I", "F")) or DEEP_CHANNELS.search(stored):
        raise UserError(f"{name} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bit.")
