"""One image of a data set, whatever its layout, and what all readers of layouts share."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from inpformer.errors import UserError
from inpformer.images.layouts.saturation import Saturation

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
# What may lie beside images: notes, labels, what file managers leave.
SIDE_SUFFIXES = {".txt", ".md", ".json", ".csv", ".xml", ".yaml", ".yml", ".db", ".ini"}
GOOD = "good"
# A pixel is defective above this level: half of full scale in masks of 0 and 255, 0 in masks of class numbers.
HALF_SCALE = 127
CLASS_NUMBERS = 0
LONGEST_CATEGORY = 100  # characters
LISTED = 3  # problems of a kind


@dataclass(frozen=True)
class Sample:
    """One image: `split` is "train", "val" or "test"; `defect` is "good" or the kind of defect; a pixel is defective
    where any of the `masks` is above `mask_level`; `part` names the physical part that several images of a category
    (views, exposures) show, "" where unknown. With `saturations` each of the `masks` is a region of its own, of the
    kind of defect that the value of its pixels names.
    """

    path: Path
    category: str
    split: str
    defect: str
    masks: tuple[Path, ...] = ()
    mask_level: int = HALF_SCALE
    part: str = ""
    saturations: tuple[Saturation, ...] = ()


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the data: `place` is the file, folder or row, `text` the whole line about it, which
    begins with the place.
    """

    place: object
    text: str

    @classmethod
    def at(cls, place: object, wrong: str) -> Self:
        """What is `wrong` at a place."""
        return cls(place, f"{place}: {wrong}")

    @property
    def kind(self) -> str:
        """Equal for problems that differ by place and numbers alone."""
        return re.sub(r"\d+", "0", self.text.removeprefix(str(self.place)))


@dataclass(frozen=True)
class Unreachable(Problem):
    """A file that cannot be opened, or must not be: no use in looking into it."""


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


def strangers(folder: Path) -> list[Problem]:
    """A problem for everything directly in a folder of images that is neither an image nor a known side file."""
    found = sorted(p for p in subpaths(folder) if p.is_dir() or p.suffix.lower() not in IMAGE_SUFFIXES | SIDE_SUFFIXES)
    other = f"none of {', '.join(sorted(IMAGE_SUFFIXES))}"
    return [Problem.at(p, f"{'a folder' if p.is_dir() else other} among the images, move or convert it") for p in found]


def list_folders(folder: Path) -> list[Path]:
    """The folders directly in a folder, sorted; none if there is no such folder."""
    return sorted(p for p in subpaths(folder) if p.is_dir())


def subpaths(folder: Path) -> list[Path]:
    """What is directly in a folder, hidden things left out; nothing if there is no such folder."""
    return [p for p in folder.iterdir() if not p.name.startswith(".")] if folder.is_dir() else []


def lacking(samples: Sequence[Sample], train: object, test: object) -> list[Problem]:
    """What one category lacks to be trained and measured on; `train` and `test` say where it was looked for."""
    found = {(sample.split, sample.defect == GOOD) for sample in samples}
    problems = [] if ("train", True) in found else [Problem.at(train, "no good images to train on, add some")]
    for good, name in ((True, "good"), (False, "defective")):
        if ("test", good) not in found:
            wanted = f"no {name} test images, both good and defective ones are needed to measure with"
            problems.append(Problem.at(test, wanted))
    return problems


def no_mask(image: Path, where: object) -> Problem:
    """What is wrong with a defective image without a mask, if others of its kind have one. A kind without any is no
    problem: it counts for image metrics alone.
    """
    others = "but others of its kind have: add it, or use a table, where masks may be missing"
    return Problem.at(image, f"it has no mask in {where}, {others}")


def misnamed(samples: Iterable[Sample]) -> list[Problem]:
    """A problem for every category, kind of defect, part or file whose name neither a folder nor a table nor a page
    could bear; each is told once, at the first image that has it.
    """
    first: dict[tuple[str, str], Path] = {}
    problems = []
    for sample in samples:
        for what, name in (("category", sample.category), ("kind of defect", sample.defect), ("part", sample.part)):
            first.setdefault((what, name), sample.path)
        for file in (sample.path, *sample.masks):
            if not _is_text(str(file)):
                problems.append(Problem.at(ascii(str(file)), "its path is not UTF-8, rename it"))
    for (what, name), path in first.items():
        if fault := category_fault(name) if what == "category" else _unprintable(name):
            place = str(path) if _is_text(str(path)) else ascii(str(path))
            problems.append(Problem.at(place, f"its {what} {name[:LONGEST_CATEGORY]!r} {fault}"))
    return problems


def category_fault(name: str) -> str:
    """Why a category cannot be called so, or "". One in a folder of several data sets is <data set>/<category>."""
    parts = name.split("/")
    if not name:
        return "is empty, name it"
    if len(parts) > 2 or not all(parts):
        return "has a slash too many: the only one may be that of <data set>/<category>"
    if {".", ".."} & {*parts} or "\\" in name:
        return "would lead to another folder: it must be neither . nor .. and have no backslash"
    if any(part != part.strip() for part in parts):
        return "begins or ends with a blank, remove it"
    if len(name) > LONGEST_CATEGORY:
        return f"has {len(name)} characters, at most {LONGEST_CATEGORY} are taken"
    return _unprintable(name)


def _unprintable(name: str) -> str:
    # Controls, surrogates, line and paragraph separators.
    strange = {"Cc", "Cs", "Zl", "Zp"} & {unicodedata.category(character) for character in name}
    return "has control characters or is no text, rename it" if strange else ""


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def refuse_all(problems: Iterable[Problem]) -> None:
    """Raises one UserError with all the problems, if there are any: of each kind the first few, and how many more."""
    listed = list(problems)
    if not listed:
        return
    counts = Counter(found.kind for found in listed)
    seen: Counter[str] = Counter()
    lines = []
    for found in listed:
        seen[found.kind] += 1
        if seen[found.kind] <= LISTED:
            lines.append(found.text)
        if seen[found.kind] == LISTED < counts[found.kind]:
            lines.append(f"… and {counts[found.kind] - LISTED} more like it")
    text = "".join(f"\n  {line}" for line in lines)
    raise UserError(f"the data has {len(listed)} problem{'s' if len(listed) > 1 else ''}, mend or remove:{text}")
