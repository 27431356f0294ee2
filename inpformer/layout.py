"""Data-set layouts: which image is a training image, which a test image, and where its mask lies."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from inpformer.errors import UserError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
GOOD = "good"
MASK_ENDING = "_mask"


@dataclass(frozen=True)
class Sample:
    """One image: `split` is "train" or "test"; `defect` is "good" or the kind of defect; only a defect has a mask."""

    path: Path
    category: str
    split: str
    defect: str
    mask: Path | None


def read_mvtec(root: Path) -> list[Sample]:
    """The samples of a folder in MVTec-AD layout, in a fixed order.

    `<category>/train/good/*`, `<category>/test/<good or defect>/*` and
    `<category>/ground_truth/<defect>/<stem>_mask.png`; `root` may be one category itself.

    Raises UserError for a missing folder or one without categories, and one error that lists every category
    without good images and every image or mask that lacks its counterpart.
    """
    if not root.is_dir():
        raise UserError(f"the data folder {root} does not exist: set manifest.data in params.yaml to a folder.")
    single = (root / "train").is_dir()
    folders = [root] if single else sorted(f for f in root.iterdir() if (f / "train").is_dir() or (f / "test").is_dir())
    if not folders:
        raise UserError(f"the data folder {root} holds no category: it needs <category>/train/{GOOD}/ with images.")
    samples: list[Sample] = []
    problems: list[str] = []
    for folder in folders:
        category = Path(os.path.abspath(folder)).name  # not resolved: a linked folder keeps the link's name
        good = [Sample(p, category, "train", GOOD, None) for p in _images(folder / "train" / GOOD)]
        if not good:
            problems.append(f"{folder / 'train' / GOOD}: no good images to train on, add some")
        samples += good + _test_samples(folder, category, problems)
    refuse_all(problems)
    return samples


def refuse_all(problems: Iterable[str]) -> None:
    """Raises one UserError that lists all the problems, if there are any."""
    if listed := list(problems):
        lines = "".join(f"\n  {problem}" for problem in listed)
        raise UserError(f"the data has {len(listed)} problem{'s' if len(listed) > 1 else ''}, mend or remove:{lines}")


def _test_samples(folder: Path, category: str, problems: list[str]) -> list[Sample]:
    test = folder / "test"
    samples = []
    kinds = sorted(f for f in test.iterdir() if f.is_dir()) if test.is_dir() else []
    for kind in kinds:
        masks = {} if kind.name == GOOD else _masks(folder / "ground_truth" / kind.name)
        for image in _images(kind):
            mask = masks.pop(image.stem, None)
            if mask is None and kind.name != GOOD:
                wanted = folder / "ground_truth" / kind.name / f"{image.stem}{MASK_ENDING}.png"
                problems.append(f"{image}: it has no mask, expected {wanted}")
            samples.append(Sample(image, category, "test", kind.name, mask))
        problems += [f"{mask}: a mask without an image in {kind}" for mask in masks.values()]
    truth = folder / "ground_truth"
    for orphan in sorted(truth.iterdir()) if truth.is_dir() else []:
        if orphan.is_dir() and not (test / orphan.name).is_dir():
            problems += [f"{mask}: a mask without an image in {test / orphan.name}" for mask in _masks(orphan).values()]
    for label, wanted_kinds in ((GOOD, {GOOD}), ("defective", {k.name for k in kinds} - {GOOD})):
        if not any(sample.defect in wanted_kinds for sample in samples):
            problems.append(f"{test}: no {label} test images, both good and defective ones are needed to measure with")
    return samples


def _masks(folder: Path) -> dict[str, Path]:
    """By the stem of the image that each belongs to."""
    return {p.stem.removesuffix(MASK_ENDING): p for p in _images(folder)}


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
