"""Layouts that say by folders which image is what: MVTec-AD and its relatives MVTec-AD 2, MVTec LOCO and BTAD.

Sources: the papers' archives, as anomalib's datasets describe them (MPDD and VisA converted to one-class folders are
MVTec-AD, the latter with masks `<stem>.png`).
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inpformer.errors import UserError
from inpformer.images.layouts.sample import (
    CLASS_NUMBERS,
    GOOD,
    HALF_SCALE,
    SIDE_SUFFIXES,
    Problem,
    Sample,
    lacking,
    list_folders,
    list_images,
    no_mask,
    strangers,
    subpaths,
)
from inpformer.images.layouts.saturation import SATURATION_FILE, Saturation, read_saturations

MASK_ENDING = "_mask"
# MVTec-AD 2 photographs a test part under several lights: 000_regular, 000_overexposed, 000_shift_1 ...
EXPOSURE = re.compile(r"(\d+)_(regular|overexposed|underexposed|shift_\d+)")


@dataclass(frozen=True)
class FolderLayout:
    """Folder names below a category: good parts, test images, masks; and what masks are called and hold.

    A `mask` with a folder in it means a folder of masks for each image, each of which is a region of its own.
    """

    good: str = "good"
    test: str = "test"
    truth: str = "ground_truth"
    mask: str = f"{{stem}}{MASK_ENDING}.png"
    mask_level: int = HALF_SCALE


FOLDER_LAYOUTS = {
    "mvtec": FolderLayout(),
    "mvtec2": FolderLayout(test="test_public", truth="test_public/ground_truth"),
    "loco": FolderLayout(mask="{stem}/000.png", mask_level=CLASS_NUMBERS),
    "btad": FolderLayout(good="ok", mask="{stem}.png"),
}


def category_layout(folder: Path) -> str | None:
    """Which of FOLDER_LAYOUTS a category's folder has; None if it is no category's folder."""
    if not any((folder / name).is_dir() for name in ("train", "test", "test_public")):
        return None
    if (folder / "test_public").is_dir():
        return "mvtec2"
    if (folder / "train/ok").is_dir() or (folder / "test/ko").is_dir():
        return "btad"
    if any(list_folders(kind) for kind in list_folders(folder / "ground_truth")):
        return "loco"
    return "mvtec"


def category_folders(root: Path) -> list[Path]:
    """The folders of the categories: `root` itself if it has a train folder, else its subfolders that are some."""
    return [root] if (root / "train").is_dir() else [f for f in list_folders(root) if category_layout(f)]


def read_folders(root: Path, layout: FolderLayout, problems: list[Problem]) -> list[Sample]:
    """The samples of a folder of categories, or of one category, in a fixed order.

    `<category>/train/<good or defect>/*`, `<category>/validation/<good>/*` (may be absent), `<category>/<test>/<good or
    defect>/*` and `<category>/<truth>/<defect>/<mask>`; a mask's suffix may be any image's and it may lack `_mask`.
    A kind of defect without such a folder, or with an empty one, has no masks: it counts for image metrics alone. Where
    an image has several masks, `<category>/defects_config.json` may say how much of each is enough (`Saturation`).

    Adds to `problems` every category without good images or without test images, every mask without an image, every
    image without a mask where others of its kind have one, and whatever lies among the images without being one.
    Raises UserError if there is no category.
    """
    folders = category_folders(root)
    if not folders:
        raise UserError(f"the data folder {root} holds no category: it needs <category>/train/{layout.good}/ images.")
    return [sample for folder in folders for sample in _read_category(folder, layout, problems)]


def _read_category(folder: Path, layout: FolderLayout, problems: list[Problem]) -> list[Sample]:
    category = Path(os.path.abspath(folder)).name  # not resolved: a linked folder keeps the link's name
    samples = []
    for split, name in (("train", "train"), ("val", "validation")):
        good = folder / name / layout.good
        samples += [Sample(image, category, split, GOOD) for image in list_images(good)]
        problems += strangers(good)
    test, truth = folder / layout.test, folder / layout.truth
    taught = [kind for kind in list_folders(folder / "train") if kind.name not in (layout.good, GOOD)]
    tested = [kind for kind in list_folders(test) if kind != truth]
    for name in sorted({kind.name for kind in (*taught, *tested)}):
        kinds = [(split, k) for split, found in (("train", taught), ("test", tested)) for k in found if k.name == name]
        samples += _read_kind(kinds, truth / name, category, layout, problems)
    for orphan in list_folders(truth):
        if orphan.name not in {kind.name for kind in (*taught, *tested)}:
            problems += [_orphan(mask, test / orphan.name) for mask in _masks(orphan, layout).values()]
    problems += lacking(samples, folder / "train" / layout.good, test)
    saturations = _saturations(folder, problems) if "/" in layout.mask else ()
    return [replace(sample, saturations=saturations) if sample.masks else sample for sample in samples]


def _saturations(folder: Path, problems: list[Problem]) -> tuple[Saturation, ...]:
    try:
        return read_saturations(folder)
    except UserError as error:
        problems.append(Problem(folder / SATURATION_FILE, str(error)))
        return ()


def _read_kind(
    kinds: Sequence[tuple[str, Path]], truth: Path, category: str, layout: FolderLayout, problems: list[Problem]
) -> list[Sample]:
    """The images of one kind, by the splits that have a folder of it. Their masks lie in one folder."""
    good = truth.name == layout.good
    masks = {} if good else _masks(truth, layout)
    needed, used = bool(masks), set()
    if not good and not needed:
        problems += _no_mask_at_all(truth, layout)
    samples: list[Sample] = []
    for split, kind in kinds:
        for image in list_images(kind):
            found = masks.get(image.stem, ())
            if found and image.stem in used:
                other = (
                    f"another image of that name lies in {kinds[0][1]}, and both have the mask {found[0]}: rename one"
                )
                problems.append(Problem.at(image, other))
            used.add(image.stem)
            exposure = EXPOSURE.fullmatch(image.stem) if layout is FOLDER_LAYOUTS["mvtec2"] else None
            part = f"{kind.name}/{exposure[1]}" if exposure else ""
            defect = GOOD if good else kind.name
            samples.append(Sample(image, category, split, defect, found, layout.mask_level, part))
        problems += strangers(kind)
    expected = truth / layout.mask.format(stem="<its name>")
    problems += [no_mask(sample.path, expected) for sample in samples if needed and not sample.masks]
    problems += [_orphan(mask, kinds[-1][1]) for stem, mask in masks.items() if stem not in used]
    return samples


def _no_mask_at_all(truth: Path, layout: FolderLayout) -> list[Problem]:
    """What lies where masks belong, without being one: left alone, all masks would vanish."""
    strange = [p for p in sorted(subpaths(truth)) if p.is_dir() or p.suffix.lower() not in SIDE_SUFFIXES]
    right = truth / layout.mask.format(stem="<name of its image>")
    return [Problem.at(path, f"not a mask, which would be {right}: convert or move it") for path in strange]


def _orphan(masks: tuple[Path, ...], kind: Path) -> Problem:
    return Problem.at(masks[0], f"a mask without an image in {kind}")


def _masks(folder: Path, layout: FolderLayout) -> dict[str, tuple[Path, ...]]:
    """By the stem of the image that they belong to."""
    if "/" in layout.mask:
        return {f.name: images for f in list_folders(folder) if (images := tuple(list_images(f)))}
    return {image.stem.removesuffix(MASK_ENDING): (image,) for image in list_images(folder)}
