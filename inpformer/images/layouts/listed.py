"""What the layouts share whose images are listed in files: VisA, Real-IAD and a table of paths."""

import csv
import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from inpformer.errors import UserError
from inpformer.images.layouts.sample import GOOD, Problem, Sample, Unreachable, lacking, no_mask


def read_csv(file: Path, columns: Collection[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with a header line, commas and UTF-8.

    Raises UserError if it cannot be read or lacks one of `columns`.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as f:  # spreadsheets write a byte-order mark
            reader = csv.DictReader(f, restval="")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as a CSV file ({error}): mend it.") from None
    if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
        raise UserError(f"{file} has no column {missing[0]!r}: its first line must name {', '.join(columns)}.")
    return rows


def unmasked(samples: Sequence[Sample], source: Path) -> list[Problem]:
    """A problem for every defective image without a mask whose category has masks for others of its kind."""
    masked = {(sample.category, sample.defect) for sample in samples if sample.masks}
    return [
        no_mask(sample.path, source)
        for sample in samples
        if sample.defect != GOOD and not sample.masks and (sample.category, sample.defect) in masked
    ]


def check_listed(samples: Sequence[Sample], source: Path, root: Path) -> list[Problem]:
    """What is wrong with the samples that the file `source` lists: files that are missing, listed twice or not given
    relative to `root`, categories that lack good or test images.
    """
    times = Counter(os.path.normpath(sample.path) for sample in samples)
    problems = [Problem.at(path, f"listed {n} times in {source}") for path, n in times.items() if n > 1]
    for sample in samples:
        for file in (sample.path, *sample.masks):
            if not file.is_relative_to(root) or ".." in file.relative_to(root).parts:
                wanted = f"{source} must give its path relative to {root}, without '..'"
                problems.append(Unreachable.at(file, wanted))
            elif fault := _fault(file):
                problems.append(Unreachable.at(file, f"{fault}, but {source} lists it"))
    for category in sorted({sample.category for sample in samples}):
        where = f"{source}, category {category}"
        problems += lacking([sample for sample in samples if sample.category == category], where, where)
    return problems


def _fault(file: Path) -> str:
    """Why a file cannot be opened, or ""."""
    try:
        return "" if file.is_file() else "no such file"
    except OSError as error:  # a path that is too long, a folder that may not be entered
        return str(error.strerror)
