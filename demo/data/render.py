"""The demo data set: three made-up products in the layout of MVTec AD, with four kinds of defect each."""

import multiprocessing
import os
import signal
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from demo import board, fabric, metal
from demo.canvas import Canvas, Field, tint
from demo.settings import DemoData
from inpformer.errors import UserError
from pipelines.platform.files import written_whole

OVERSAMPLING = 2  # canvas pixels a side of an image pixel
VISIBLE = 0.03  # a pixel belongs to the defect from this change of a colour on, before noise; white is 1


class Category(NamedTuple):
    """A product: how it is drawn, what can be wrong with it, and how exactly it is laid under the camera.

    `sway` is (shift as a fraction of the side, turn in radians, relative scale), each the most either way.
    """

    draw: Callable[[Canvas, np.random.Generator, str | None, np.random.Generator], None]
    defects: tuple[str, ...]
    sway: tuple[float, float, float]


CATEGORIES = {
    "metal": Category(metal.draw, tuple(metal.DEFECTS), (0.02, 0.03, 0.02)),
    "fabric": Category(fabric.draw, fabric.DEFECTS, (0.02, 0.04, 0.03)),
    "board": Category(board.draw, board.DEFECTS, (0.025, 0.07, 0.03)),
}


def generate(settings: DemoData, out: Path) -> None:
    """Writes the whole data set to the folder `out`, which is replaced if it holds an earlier one.

    Raises UserError if `out` holds anything else.
    """
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - set(CATEGORIES)):
        raise UserError(f"{out} holds something other than demo data: name another folder with --out.")
    with written_whole(out) as folder:
        jobs = [
            (settings, folder, category, place, number)
            for category in CATEGORIES
            for place, count in _counts(category, settings).items()
            for number in range(count)
        ]
        for job in jobs:
            for path in _paths(*job[1:]):
                path.parent.mkdir(parents=True, exist_ok=True)
        # spawned, because the caller may have threads, which a fork does not survive; many small numpy calls
        # hold the interpreter's lock, so that threads would not help here
        spawn = multiprocessing.get_context("spawn")
        # Ctrl-C reaches this process alone: it stops the others, and they print no traceback
        deaf = (signal.SIGINT, signal.SIG_IGN)
        with ProcessPoolExecutor(os.cpu_count(), spawn, signal.signal, deaf) as pool:
            done = pool.map(_write, *zip(*jobs, strict=True), chunksize=4)
            for _ in tqdm(done, "demo images", len(jobs), unit="image", disable=None):
                pass


def render(
    category: str, defect: str | None, seeds: Sequence[int], size: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Photographs one product: the image (size, size, 3), and the pixels that differ because of the defect.

    The same `seeds` without the defect give the same image but for those pixels.
    """
    draw, _, sway = CATEGORIES[category]
    pose, scene, flaw, film = np.random.SeedSequence(seeds).spawn(4)

    def shoot(defect: str | None) -> Field:
        canvas = _lay(np.random.default_rng(pose), size, sway)
        draw(canvas, np.random.default_rng(scene), defect, np.random.default_rng(flaw))
        steps = [slice(start, None, OVERSAMPLING) for start in range(OVERSAMPLING)]
        pooled: Field = np.mean([canvas.colour[:, r, c] for r in steps for c in steps], axis=0)
        return pooled

    picture = shoot(defect)
    mask = np.zeros((size, size), np.bool_)
    if defect:
        mask = np.abs(picture - shoot(None)).max(axis=0) > VISIBLE
        # a pixel inside the defect may happen to keep its colour
        mask = ndimage.binary_fill_holes(ndimage.binary_closing(mask, iterations=max(1, size // 128)) | mask)
    return _develop(picture, np.random.default_rng(film)), mask


def _lay(rng: np.random.Generator, size: int, sway: tuple[float, float, float]) -> Canvas:
    """An empty canvas (OVERSAMPLING x size a side) on a product that lies a little differently each time."""
    shift, turn, scale = (most * rng.uniform(-1, 1, n) for most, n in zip(sway, (2, 1, 1), strict=True))
    side = OVERSAMPLING * size
    at = (1 + scale) * ((np.arange(side) + 0.5) / side - 0.5)
    right, down = np.meshgrid(at, at)
    x = np.cos(turn) * right - np.sin(turn) * down + shift[0]
    y = np.sin(turn) * right + np.cos(turn) * down + shift[1]
    colour = np.zeros((3, side, side), np.float32)
    return Canvas(x.astype(np.float32), y.astype(np.float32), colour, 1 / side)


def _develop(picture: Field, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Light, lens and sensor: a picture (3, size, size) of the scene becomes an 8-bit photograph (size, size, 3)."""
    side = np.linspace(-0.5, 0.5, picture.shape[-1], dtype=np.float32)
    slope, warmth = rng.uniform(-0.12, 0.12, 2), rng.uniform(-0.03, 0.03)
    light = rng.uniform(0.9, 1.1) * (1 + side[:, None] * float(slope[0]) + side * float(slope[1]))
    picture = picture * tint((1 + warmth, 1, 1 - warmth), light)
    blurred = ndimage.gaussian_filter(picture, rng.uniform(0.25, 0.6), axes=(1, 2))
    grain = rng.uniform(0.006, 0.012) * rng.standard_normal(picture.shape, np.float32)
    noisy = blurred + grain * np.sqrt(0.3 + blurred)
    return np.asarray(np.round(255 * np.clip(noisy, 0, 1)).transpose(1, 2, 0), np.uint8)


def _counts(category: str, settings: DemoData) -> dict[str, int]:
    """How many images go to which folder of a category: a third of the test images is good."""
    good = settings.test_images // 3
    each, more = divmod(settings.test_images - good, len(CATEGORIES[category].defects))
    defects = {f"test/{d}": each + (n < more) for n, d in enumerate(CATEGORIES[category].defects)}
    return {"train/good": settings.train_images, "test/good": good} | defects


def _paths(folder: Path, category: str, place: str, number: int) -> list[Path]:
    """Where an image goes, and its mask if it has one."""
    image = folder / category / place / f"{number:03d}.png"
    if place.endswith("/good"):
        return [image]
    return [image, folder / category / "ground_truth" / image.parent.name / f"{image.stem}_mask.png"]


def _write(settings: DemoData, folder: Path, category: str, place: str, number: int) -> None:
    # seeded by its own name, an image stays the same whatever else is rendered
    seeds = (settings.seed, zlib.crc32(f"{category}/{place}".encode()), number)
    image_path, *mask_path = _paths(folder, category, place, number)
    defect = image_path.parent.name if mask_path else None
    image, mask = render(category, defect, seeds, settings.image_size)
    Image.fromarray(image).save(image_path)
    for path in mask_path:
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
