"""One look at each picture: what its file says of itself, and a small descriptor of what it shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from scipy.fft import dctn
from tqdm import tqdm

from inpformer.images.opening import open_image
from pipelines.gate.processes import JOB_IMAGES, spread
from pipelines.gate.registration import SIDE, phases
from pipelines.manifest.table import Manifest

FREQUENCIES = 16  # the lowest either way: what a 256-bit perceptual hash looks at


@dataclass(frozen=True, slots=True)
class Look:
    """`mode` is Pillow's; `orientation` EXIF's, 1 for upright; `frequencies` [255] float16, unscaled; `phases` [606]
    as `registration` compares them.
    """

    mode: str
    transparent: bool
    orientation: int
    frequencies: NDArray[np.float16]
    phases: NDArray[np.uint8]


def look_at_all(manifest: Manifest, white: int) -> dict[str, Look]:
    """Reads every picture of the manifest once; by path. Raises UserError for one that is gone."""
    return look_at(manifest.root, [row.path for row in manifest.rows], white)


def look_at(root: Path, paths: Sequence[str], white: int) -> dict[str, Look]:
    """Reads pictures whose `paths` are relative to `root`; by path. `white` is that of 16 bits a channel. Raises
    UserError for one that is gone.
    """
    jobs = [(root, paths[start : start + JOB_IMAGES], white) for start in range(0, len(paths), JOB_IMAGES)]
    with spread(len(paths)) as each:
        looks = chain.from_iterable(each(_look_at, jobs))
        return dict(zip(paths, tqdm(looks, "looking", len(paths), disable=None), strict=True))


def picture(path: Path, white: int) -> Image.Image:
    """The only place where the gate opens a file. Raises UserError for one that cannot be read."""
    return open_image(path, str(path), white)


def _look_at(job: tuple[Path, Sequence[str], int]) -> list[Look]:
    root, paths, white = job
    return [look_at_picture(picture(root / path, white)) for path in paths]


def look_at_picture(image: Image.Image) -> Look:
    """What is seen in one picture."""
    small = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float32)
    lowest = dctn(small, norm="ortho")[:FREQUENCIES, :FREQUENCIES].ravel()[1:]  # without the mean brightness
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    return Look(image.mode, transparent, _orientation(image), np.asarray(lowest, np.float16), phases(small))


def _orientation(image: Image.Image) -> int:
    """EXIF's; 1 where it is missing or broken."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow's reader of EXIF raises SyntaxError and struct.error among others
        return 1
