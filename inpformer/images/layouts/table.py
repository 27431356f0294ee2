"""A plain table of paths: for data that lies in no public layout."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from inpformer.errors import UserError
from inpformer.images.layouts.listed import check_listed, read_csv
from inpformer.images.layouts.sample import GOOD, Problem, Sample

TABLE_NAMES = ("samples.csv", "samples.parquet")
COLUMNS = ("path", "category", "split", "defect", "mask", "part")
SPLITS = ("train", "val", "test")
# Kinds of defect that can only be meant as none.
MEANT_GOOD = {
    *("good", "ok", "okay", "normal", "pass", "fine", "none", "no", "null", "nan", "n/a", "na"),
    *("no defect", "no_defect", "false", "0", "0.0", "-"),
}
# Reads a Parquet file as one dictionary a row: the caller's, as this package does without pyarrow.
ParquetReader = Callable[[Path], list[dict[str, object]]]


def find_table(root: Path) -> Path | None:
    """The table that `root` holds under one of TABLE_NAMES; None if there is none.

    Raises UserError if it holds both.
    """
    found = [root / name for name in TABLE_NAMES if (root / name).is_file()]
    if len(found) > 1:
        raise UserError(f"{root} holds both {' and '.join(TABLE_NAMES)}: remove one of them.")
    return found[0] if found else None


def read_table(root: Path, parquet: ParquetReader | None, problems: list[Problem]) -> list[Sample]:
    """The samples of the table in `root` (see `find_table`), in its order.

    Columns: `path` and `mask` relative to the table's folder, masks of 0 and 255; `category` (default: the folder's
    name); `defect`, "good" (default) or the kind; `split`, train, val or test (default: train for good images, test
    for defective ones); `part`. A defective image may lack a mask: it counts for image metrics only. Defective val
    images are for the search of parameters alone.

    Adds to `problems` every other column, and every row that cannot be used. Raises UserError if there is no table or
    it cannot be read.
    """
    file = find_table(root)
    if file is None:
        raise UserError(f"{root} holds no table of paths: call it {' or '.join(TABLE_NAMES)}.")
    default = Path(os.path.abspath(root)).name
    rows, samples = _rows(file, parquet), []
    unknown = sorted({name for row in rows for name in row if name is not None} - {*COLUMNS})
    known = f"is unknown, remove it or use {', '.join(COLUMNS)}"
    problems += [Problem.at(file, f"column {name!r} {known}") for name in unknown]
    for number, row in enumerate(rows, 1):
        values = {name: "" if value is None else str(value).strip() for name, value in row.items()}
        if wrong := _wrong(values):
            problems.append(Problem.at(f"{file}, row {number}", wrong))
        else:
            samples.append(_sample(root, values, default))
    problems += check_listed(samples, file, root)
    if not samples and not problems:
        problems.append(Problem.at(file, "it lists no image"))
    return samples


def _rows(file: Path, parquet: ParquetReader | None) -> Sequence[Mapping[str, object]]:
    if file.suffix.lower() == ".csv":
        return read_csv(file, ("path",))
    if parquet is None:
        raise UserError(f"{file} is Parquet, which only the pipeline reads: write it as CSV.")
    return parquet(file)


def _wrong(row: dict[str, str]) -> str:
    """What is wrong with one row by itself, or ""."""
    if None in row:  # as csv.DictReader calls them
        return "it has more cells than the first line names columns: put what has a comma in quotes"
    if not row.get("path"):
        return "it has no path"
    if (split := row.get("split", "")) not in (*SPLITS, ""):
        return f"split is {split!r}: it must be one of {', '.join(SPLITS)}"
    defect = row.get("defect", "")
    if defect != GOOD and defect.casefold() in MEANT_GOOD:
        return f"defect is {defect!r}: write {GOOD} for a good part, or name the kind of defect"
    if row.get("mask") and defect in (GOOD, ""):
        return f"{row['path']} has a mask but no defect: name the kind of defect, or remove the mask"
    return ""


def _sample(folder: Path, row: dict[str, str], default_category: str) -> Sample:
    defect = row.get("defect") or GOOD
    return Sample(
        path=folder / row["path"],
        category=row.get("category") or default_category,
        split=row.get("split") or ("train" if defect == GOOD else "test"),
        defect=defect,
        masks=(folder / row["mask"],) if row.get("mask") else (),
        part=row.get("part", ""),
    )
