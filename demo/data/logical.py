"""The demo data set of logical defects: trays of parts in the layout of MVTec LOCO AD, saturations included."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from demo.canvas import Canvas, Field
from demo.data.photograph import Sway, changed, develop, lay, pooled
from demo.data.rendering import refuse_other, render_all
from demo.parts import AREAS, Part, lay_part, mark
from demo.settings import DemoData
from demo.tray import floor, pack
from demo.tray_flaws import ABOVE, BELOW, BROKEN, LOGICAL, STRUCTURAL, Region, break_part
from inpformer.images.layouts.saturation import SATURATION_FILE
from pipelines.platform.files import written_whole

CATEGORY = "tray"
SWAY: Sway = (0.015, 0.03, 0.02)
DEFECTS = {"logical_anomalies": tuple(LOGICAL), "structural_anomalies": STRUCTURAL}
# Found in full when as much of them is marked as one part covers; all other defects when all of them is.
BY_AREA = {f"missing_{kind}": kind for kind in ("screw", "washer", "nut", "cable")} | {
    f"additional_{kind}": kind for kind in ("screw", "washer", "nut")
}
WHOLLY = ("missing_knob", "swapped_part", "misplaced_part", "wrong_colour", *STRUCTURAL)
VALUES = {defect: 255 - number for number, defect in enumerate((*BY_AREA, *WHOLLY))}
Marked = tuple[str, npt.NDArray[np.bool_]]


def generate(settings: DemoData, out: Path) -> None:
    """Writes the data set to the folder `out`, which is replaced if it holds an earlier one: a quarter as many good
    images for validation as for training, and of the test images a third good, a third logical, a third structural.

    Raises UserError if `out` holds anything else.
    """
    refuse_other(out, [CATEGORY])
    third = settings.test_images // 3
    counts = {
        "train/good": settings.train_images,
        "validation/good": -(-settings.train_images // 4),
        "test/good": settings.test_images - 2 * third,
        **dict.fromkeys((f"test/{kind}" for kind in DEFECTS), third),
    }
    with written_whole(out) as folder:
        for place in counts:
            (folder / CATEGORY / place).mkdir(parents=True)
        listed = json.dumps(saturations(settings.image_size), indent=2)
        (folder / CATEGORY / SATURATION_FILE).write_text(listed + "\n")
        render_all(_write, [(settings, folder, place, n) for place, count in counts.items() for n in range(count)])


def saturations(size: int) -> list[dict[str, Any]]:
    """What `defects_config.json` holds for images of `size` pixels a side."""
    by_area = {defect: max(1, round(AREAS[kind] * size**2)) for defect, kind in BY_AREA.items()}
    return [
        {
            "defect_name": defect,
            "pixel_value": value,
            "saturation_threshold": by_area.get(defect, 1.0),
            "relative_saturation": defect not in by_area,
        }
        for defect, value in VALUES.items()
    ]


def render(defect: str | None, seeds: Sequence[int], size: int) -> tuple[npt.NDArray[np.uint8], list[Marked]]:
    """Photographs one tray: the image (size, size, 3), and its defects' regions (size, size) with their names.

    `defect` is one of LOGICAL or STRUCTURAL, or None.
    """
    pose, scene, flaw, ground, film = np.random.SeedSequence(seeds).spawn(5)

    def canvas() -> Canvas:
        return lay(np.random.default_rng(pose), size, SWAY)

    def shoot(parts: Sequence[Part], spoilt: str | None) -> Field:
        picture, rng = canvas(), np.random.default_rng(flaw)
        floor(picture, np.random.default_rng(ground))
        if spoilt in BELOW:
            BELOW[spoilt](picture, rng)
        for part in parts:
            lay_part(picture, part)
        if spoilt in ABOVE:
            ABOVE[spoilt](picture, rng)
        return pooled(picture)

    regions: list[Region] = []
    parts = clean = pack(np.random.default_rng(scene))
    if defect in LOGICAL:
        parts, regions = LOGICAL[defect](np.random.default_rng(scene), np.random.default_rng(flaw))
    elif defect in BROKEN:
        parts = break_part(clean, BROKEN[defect], np.random.default_rng(flaw))
    picture = shoot(parts, defect)
    marked = [(region.defect, _covered(canvas(), region)) for region in regions]
    if defect in STRUCTURAL:
        marked = [(defect, changed(picture, shoot(clean, None)))]
    return develop(picture, np.random.default_rng(film)), marked


def _covered(canvas: Canvas, region: Region) -> npt.NDArray[np.bool_]:
    for part in region.parts:
        mark(canvas, part)
    if box := region.box:
        canvas.paint(canvas.box(box.width, box.height, box.x, box.y, corner=0.02), (1.0, 1.0, 1.0))
    return np.asarray(pooled(canvas)[0] > 0.5)


def _write(settings: DemoData, folder: Path, place: str, number: int) -> None:
    # seeded by its own name, an image stays the same whatever else is rendered
    seeds = (settings.seed, zlib.crc32(f"{CATEGORY}/{place}".encode()), number)
    kind = Path(place).name
    defect = DEFECTS[kind][number % len(DEFECTS[kind])] if kind in DEFECTS else None
    image, marked = render(defect, seeds, settings.image_size)
    Image.fromarray(image).save(folder / CATEGORY / place / f"{number:03d}.png")
    masks = folder / CATEGORY / "ground_truth" / kind / f"{number:03d}"
    for place_in_image, (name, region) in enumerate(marked):
        masks.mkdir(parents=True, exist_ok=True)
        Image.fromarray(region.astype(np.uint8) * VALUES[name]).save(masks / f"{place_in_image:03d}.png")
