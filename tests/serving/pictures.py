"""Pictures that tests send."""

import io
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: int = 0, size: tuple[int, int] = (90, 60)) -> Image.Image:
    """Noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def as_file(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """The content of its file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()
