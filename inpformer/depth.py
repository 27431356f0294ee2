"""How many bits a picture may have a channel: without torch, so that whoever only reads files need not import it."""

from PIL import Image

from inpformer.errors import UserError


def refuse_deep(image: Image.Image, name: str) -> None:
    """Raises UserError if a picture has more than 8 bits a channel: Pillow would clip all above 255 to white."""
    if image.mode.startswith(("I", "F")):
        raise UserError(f"{name} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bit.")
