"""Who is trained on, who validates and who tests: parts are never on two sides, and content alone decides."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from inpformer.errors import UserError
from inpformer.images.layouts.sample import Problem, refuse_all

if TYPE_CHECKING:
    from pipelines.manifest.table import Row


def name_parts(rows: Sequence[Row], pattern: str) -> list[Row]:
    """The rows with the part that the first group of the regular expression `pattern` finds in their path, or "".

    Raises UserError if it fits no path at all.
    """
    found = [re.search(pattern, row.path) for row in rows]
    if not any(found):
        example = f", e.g. {rows[0].path}" if rows else ""
        raise UserError(f"manifest.part {pattern!r} fits none of the {len(rows)} paths{example}: mend it, or null.")
    return [replace(row, part=(match[1] or "") if match else "") for row, match in zip(rows, found, strict=True)]


def cut_validation(rows: Sequence[Row], fraction: float) -> list[Row]:
    """Moves `fraction` of the parts of each category's training images to val, chosen by their content alone.

    An image without a part is its own. Only good images are moved. Copies of one image and images of one part go to the
    same side, and an added image moves few of the others. A category that brings good validation images of its own
    keeps all training images.

    Raises one UserError with all categories that have too few to have both.
    """
    chosen: set[tuple[str, str]] = set()
    problems = []
    for category, members in _by_category(rows).items():
        if any(row.split == "val" and not row.label for row in members):
            continue
        train = [row for row in members if row.split == "train" and not row.label]
        together = _together([row for row in members if row.split == "train"])
        taught = _taught(members, together)
        good = {together[row.sha256] for row in train}
        if len(good) < 2 or good <= taught:
            found = "one good training image" if len(train) == 1 else "good training images of one part only"
            if len(good) > 1:
                found = "no good training image of a part without a defect that is learnt from"
            wrong = f"it has {found}, add more: a threshold needs images of its own"
            problems.append(Problem.at(f"category {category}", wrong))
            continue
        count = min(len(good) - 1, max(1, round(fraction * len(good))))
        val = set(sorted(good - taught)[:count])
        chosen |= {(category, row.sha256) for row in train if together[row.sha256] in val}
    refuse_all(problems)
    return [
        replace(row, split="val") if row.split == "train" and (row.category, row.sha256) in chosen else row
        for row in rows
    ]


def cut_here(rows: Sequence[Row]) -> bool:
    """Whether the good val images of a category are such as `cut_validation` chooses, and not the layout's own: their
    parts come before all those of the training images that it could have chosen in the order of their content, which is
    chance otherwise.
    """
    learnt = [row for row in rows if row.split == "train" or (row.split == "val" and not row.label)]
    together = _together(learnt)
    val = {together[row.sha256] for row in learnt if row.split == "val"}
    train = {together[row.sha256] for row in learnt if row.split == "train"}
    left = train - _taught(learnt, together)
    return bool(val) and bool(train) and (not left or max(val) < min(left))


def _taught(rows: Sequence[Row], together: Mapping[str, str]) -> set[str]:
    """The groups that a defect to learn from belongs to: such a part stays where it is learnt from."""
    return {together[row.sha256] for row in rows if row.split == "train" and row.label}


def _together(rows: Sequence[Row]) -> dict[str, str]:
    """By each image's hash: the smallest hash of all the images that it belongs to, by part or as their copy."""
    smaller = {row.sha256: row.sha256 for row in rows}

    def smallest(sha256: str) -> str:
        while smaller[sha256] != sha256:
            sha256 = smaller[sha256]
        return sha256

    first_of_part: dict[str, str] = {}
    for row in rows:
        if row.part:
            one, other = smallest(first_of_part.setdefault(row.part, row.sha256)), smallest(row.sha256)
            smaller[max(one, other)] = min(one, other)
    return {sha256: smallest(sha256) for sha256 in smaller}


def refuse_leaks(rows: Sequence[Row]) -> None:
    """Raises one UserError that lists every part with images in more than one split."""
    sides: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)  # category, part: an image of each split
    for row in rows:
        if row.part:
            sides[row.category, row.part].setdefault(row.split, row.path)
    refuse_all(
        Problem.at(
            f"category {category}, part {part}",
            "it is in " + " and in ".join(f"{s} ({p})" for s, p in found.items()),
        )
        for (category, part), found in sides.items()
        if len(found) > 1
    )


def keep_shots(rows: Sequence[Row], shots: int) -> list[Row]:
    """Leaves each category `shots` good training images, chosen by their content alone, copies left out.

    Raises one UserError with all categories that have fewer.
    """
    kept: set[str] = set()
    problems = []
    for category, members in _by_category(rows).items():
        train = {row.sha256: row.path for row in members if row.split == "train" and not row.label}
        if len(train) < shots:
            left = f"it has {len(train)} different training images left after validation, manifest.shots is {shots}"
            problems.append(Problem.at(f"category {category}", f"{left}: ask for {len(train)} or add images"))
        kept |= {train[sha256] for sha256 in sorted(train)[:shots]}
    refuse_all(problems)
    return [row for row in rows if row.split != "train" or row.label or row.path in kept]


def _by_category(rows: Sequence[Row]) -> dict[str, list[Row]]:
    members: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        members[row.category].append(row)
    return members
