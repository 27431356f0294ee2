"""Pictures that tests send, and a verdict as one has it."""

import io
from typing import Any

import numpy as np
from PIL import Image

from serving.answers import Timings, Verdict


def picture(seed: int = 0, size: tuple[int, int] = (90, 60)) -> Image.Image:
    """Noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def as_file(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """The content of its file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def verdict(**changed: Any) -> Verdict:
    """A PASS at half the threshold."""
    values: dict[str, Any] = {
        "category": "nut",
        "score": 1.0,
        "threshold": 2.0,
        "review_threshold": 2.0,
        "decision": "PASS",
        "doubt": None,
        "p_value": 0.5,
        "percentile": 50.0,
        "false_alarm_rate": 0.01,
        "promised": True,
        "regions": [],
        "model_name": "m",
        "model_version": 1,
        "model_digest": "0" * 64,
        "timings_ms": Timings.of(0.0, 0.004, 0.3),
    }
    return Verdict(**values | changed)
