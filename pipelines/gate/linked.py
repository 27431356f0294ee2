"""Near duplicates within one side of a split: pictures of one part, which statistics count once."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inpformer.errors import UserError
from inpformer.judging.parts import parts_of
from pipelines.manifest.table import Row
from pipelines.platform import files


@dataclass(frozen=True)
class Linked:
    """`groups` of paths, each of pictures that show one part; `looked` is false where nobody looked for such."""

    looked: bool = False
    groups: Sequence[Sequence[str]] = ()
    _group_of: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        groups = tuple(tuple(group) for group in self.groups)
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "_group_of", {path: f"{n}" for n, group in enumerate(groups) for path in group})

    def group(self, path: str) -> str:
        """What the pictures of one part share, "" for a picture that is linked to none."""
        return self._group_of.get(path, "")


def write_linked(linked: Linked, file: Path) -> None:
    """Writes the groups; `read_linked` is its counterpart."""
    with files.written_whole(file) as temporary:
        values = {"looked": linked.looked, "groups": linked.groups}
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_linked(file: Path) -> Linked:
    """Raises UserError if `file` is missing or is not what `write_linked` writes."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        looked, groups = values["looked"], values["groups"]
        if type(looked) is not bool or not all(isinstance(path, str) for group in groups for path in group):
            raise ValueError("it holds no groups of paths")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file} cannot be read ({error}): run `dvc repro --force --single-item gate`.") from None
    return Linked(looked, groups)


def numbered(rows: Sequence[Row], linked: Linked) -> NDArray[np.intp]:
    """The part of each image [n], numbered from 0; copies are of one part, and so are linked images."""
    return parts_of([row.part for row in rows], [row.sha256 for row in rows], [linked.group(row.path) for row in rows])


def good_parts(rows: Sequence[Row], linked: Linked) -> tuple[list[set[str]], list[set[str]]]:
    """The sha256 of the good images of each part: of parts without a defect among these rows, and of parts with one."""
    parts = numbered(rows, linked).tolist()
    good: dict[int, set[str]] = defaultdict(set)
    for row, part in zip(rows, parts, strict=True):
        if not row.label:
            good[part].add(row.sha256)
    defective = {part for row, part in zip(rows, parts, strict=True) if row.label}
    return (
        [images for part, images in good.items() if part not in defective],
        [images for part, images in good.items() if part in defective],
    )
