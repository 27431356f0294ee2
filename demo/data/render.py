"""The demo data set: three made-up products in the layout of MVTec AD, with four kinds of defect each."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from demo import board, fabric, metal
from demo.canvas import Canvas, Field
from demo.data.photograph import Sway, changed, develop, lay, pooled
from demo.data.rendering import refuse_other, render_all
from demo.settings import DemoData
from pipelines.platform.files import written_whole


class Category(NamedTuple):
    """A product: how it is drawn, what can be wrong with it, and how exactly it is laid under the camera."""

    draw: Callable[[Canvas, np.random.Generator, str | None, np.random.Generator], None]
    defects: tuple[str, ...]
    sway: Sway


CATEGORIES = {
    "metal": Category(metal.draw, tuple(metal.DEFECTS), (0.02, 0.03, 0.02)),
    "fabric": Category(fabric.draw, fabric.DEFECTS, (0.02, 0.04, 0.03)),
    "board": Category(board.draw, board.DEFECTS, (0.025, 0.07, 0.03)),
}


def generate(settings: DemoData, out: Path) -> None:
    """Writes the whole data set to the folder `out`, which is replaced if it holds an earlier one.

    Raises UserError if `out` holds anything else.
    """
    refuse_other(out, CATEGORIES)
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
        render_all(_write, jobs)


def render(
    category: str, defect: str | None, seeds: Sequence[int], size: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Photographs one product: the image (size, size, 3), and the pixels that differ because of the defect.

    The same `seeds` without the defect give the same image but for those pixels.
    """
    draw, _, sway = CATEGORIES[category]
    pose, scene, flaw, film = np.random.SeedSequence(seeds).spawn(4)

    def shoot(defect: str | None) -> Field:
        canvas = lay(np.random.default_rng(pose), size, sway)
        draw(canvas, np.random.default_rng(scene), defect, np.random.default_rng(flaw))
        return pooled(canvas)

    picture = shoot(defect)
    mask = changed(picture, shoot(None)) if defect else np.zeros((size, size), np.bool_)
    return develop(picture, np.random.default_rng(film)), mask


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
