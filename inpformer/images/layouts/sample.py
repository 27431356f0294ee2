"""One image of a data set, whatever its layout, and what all readers of layouts share."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inpformer.errors import UserError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
# What may lie beside images: notes, labels, what file managers leave.
SIDE_SUFFIXES = {".txt", ".md", ".json", ".csv", ".xml", ".yaml", ".yml", ".db", ".ini"}
GOOD = "good"
# A pixel is defective above this level: half of full scale in masks of 0 and 255, 0 in masks of class numbers.
HALF_SCALE = 127
CLASS_NUMBERS = 0


@dataclass(frozen=True)
class Sample:
    """One image: `split` is "train", "val" or "test"; `defect` is "good" or the kind of defect; a pixel is defective
    where any of the `masks` is above `mask_level`; `part` names the physical part that several images of a category
    (views, exposures) show, "" where unknown.
    """

    path: Path
    category: str
    split: str
    defect: str
    masks: tuple[Path, ...] = ()
    mask_level: int = HALF_SCALE
    part: str = ""


@contextmanager
def readable() -> Iterator[None]:
    """Whatever cannot be read inside becomes a UserError that names it."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}): make it readable or move it elsewhere."
        ) from None


@readable()
def list_images(folder: Path) -> list[Path]:
    """The images directly in a folder, sorted; none if there is no such folder."""
    return sorted(p for p in subpaths(folder) if p.suffix.lower() in IMAGE_SUFFIXES)


def strangers(folder: Path) -> list[str]:
    """A problem for everything directly in a folder of images that is neither an image nor a known side file."""
    found = sorted(p for p in subpaths(folder) if p.is_dir() or p.suffix.lower() not in IMAGE_SUFFIXES | SIDE_SUFFIXES)
    other = f"none of {', '.join(sorted(IMAGE_SUFFIXES))}"
    return [f"{p}: {'a folder' if p.is_dir() else other} among the images, move or convert it" for p in found]


def list_folders(folder: Path) -> list[Path]:
    """The folders directly in a folder, sorted; none if there is no such folder."""
    return sorted(p for p in subpaths(folder) if p.is_dir())


def subpaths(folder: Path) -> list[Path]:
    """What is directly in a folder, hidden things left out; nothing if there is no such folder."""
    return [p for p in folder.iterdir() if not p.name.startswith(".")] if folder.is_dir() else []


def lacking(samples: Sequence[Sample], train: object, test: object) -> list[str]:
    """What one category lacks to be trained and measured on; `train` and `test` say where it was looked for."""
    found = {(sample.split, sample.defect == GOOD) for sample in samples}
    problems = [] if ("train", True) in found else [f"{train}: no good images to train on, add some"]
    for good, name in ((True, "good"), (False, "defective")):
        if ("test", good) not in found:
            problems.append(f"{test}: no {name} test images, both good and defective ones are needed to measure with")
    return problems


def unnameable(samples: Iterable[Sample]) -> list[str]:
    """A problem for every file whose name is no text (UTF-8): neither a manifest nor a page could hold it."""
    files = (file for sample in samples for file in (sample.path, *sample.masks))
    return [f"{str(f)!a}: its path is not UTF-8, rename it" for f in files if not _is_text(str(f))]


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def refuse_all(problems: Iterable[str]) -> None:
    """Raises one UserError that lists all the problems, if there are any."""
    if listed := list(problems):
        lines = "".join(f"\n  {problem}" for problem in listed)
        raise UserError(f"the data has {len(listed)} problem{'s' if len(listed) > 1 else ''}, mend or remove:{lines}")
