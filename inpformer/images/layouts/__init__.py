"""Data-set layouts: which image is a training image, which a test image, and where its masks lie."""

from dataclasses import dataclass, replace
from pathlib import Path

from inpformer.errors import UserError
from inpformer.images.layouts.folders import FOLDER_LAYOUTS, category_layout, read_folders
from inpformer.images.layouts.real_iad import REAL_IAD_LISTS, read_real_iad
from inpformer.images.layouts.sample import Problem, Sample, list_folders, misnamed, readable, refuse_all
from inpformer.images.layouts.table import ParquetReader, find_table, read_table
from inpformer.images.layouts.visa import VISA_SPLIT, read_visa

AUTO = "auto"
SEVERAL = "several"
# What each layout needs, for people.
LAYOUTS = {
    "mvtec": "<category>/train/good, test/<good or defect>, ground_truth/<defect>/<stem>_mask.png or <stem>.png",
    "mvtec2": "<category>/train/good, test_public/{good,bad}, test_public/ground_truth/bad/<stem>_mask.png",
    "loco": "<category>/train/good, test/<good or defect>, ground_truth/<defect>/<stem>/<any>.png",
    "btad": "<category>/train/ok, test/{ok,ko}, ground_truth/ko/<stem>.png",
    "visa": VISA_SPLIT,
    "real_iad": f"{REAL_IAD_LISTS}/<category>.json and the images in a folder such as realiad_1024",
    "table": "samples.csv or samples.parquet with a column path",
    SEVERAL: "a folder of data sets, each in one of these layouts",
}


@dataclass(frozen=True)
class DataSet:
    """What was found: `root` is the folder that all paths lie below; `layout` one of LAYOUTS. There is no working with
    the samples if there are `problems`.
    """

    layout: str
    root: Path
    samples: list[Sample]
    problems: list[Problem]


def detect(root: Path) -> str:
    """The name in LAYOUTS of the layout that the folder `root` has.

    Raises UserError if it does not exist, and one that lists the known layouts if none fits.
    """
    _require_existing(root)
    layout = _layout_of(root)
    if layout and layout not in FOLDER_LAYOUTS:
        return layout
    data_sets = [folder for folder in list_folders(root) if _layout_of(folder)]
    if layout and all(category_layout(folder) for folder in data_sets):
        return layout
    if data_sets:
        return SEVERAL
    known = "; ".join(f"{name} ({needs})" for name, needs in LAYOUTS.items())
    raise UserError(f"{root} has none of the known layouts: rearrange it, or name its layout: {known}.")


def _require_existing(root: Path) -> None:
    if not root.exists():
        raise UserError(f"the data folder {root} does not exist: correct the path, or bring it there first.")


def _layout_of(root: Path) -> str | None:
    """The layout of one data set; None if there is none, or its categories have different ones."""
    if find_table(root):
        return "table"
    if (root / VISA_SPLIT).is_file():
        return "visa"
    if (root / REAL_IAD_LISTS).is_dir():
        return "real_iad"
    if (root / "train").is_dir():
        return category_layout(root)
    found = {layout for folder in list_folders(root) if (layout := category_layout(folder))}
    return found.pop() if len(found) == 1 else None


def read_data(root: Path, layout: str = AUTO, parquet: ParquetReader | None = None) -> DataSet:
    """As `list_data`. Raises one UserError, too, that lists everything that is wrong with the data."""
    found = list_data(root, layout, parquet)
    refuse_all(found.problems)
    return found


@readable()
def list_data(root: Path, layout: str = AUTO, parquet: ParquetReader | None = None) -> DataSet:
    """The samples of the folder `root`, in a fixed order, and what is wrong with them, before any image is opened;
    `layout` is one of LAYOUTS, or "auto" to detect.

    In a folder of several data sets a category is called `<data set>/<category>`. `parquet` reads Parquet tables.

    Raises UserError if nothing fits or can be read.
    """
    _require_existing(root)
    if layout == AUTO:
        layout = detect(root)
    problems: list[Problem] = []
    if layout == SEVERAL:
        samples = _read_several(root, parquet, problems)
    else:
        samples = _read_one(root, layout, parquet, problems)
    problems += misnamed(samples)
    return DataSet(layout, root, samples, problems)


def _read_several(root: Path, parquet: ParquetReader | None, problems: list[Problem]) -> list[Sample]:
    samples = []
    for folder in list_folders(root):
        layout = _layout_of(folder)
        if layout is None:
            problems.append(Problem.at(folder, "no data set in a known layout, move it elsewhere"))
            continue
        try:
            found = _read_one(folder, layout, parquet, problems)
        except UserError as error:
            problems.append(Problem(folder, str(error)))
            continue
        samples += [replace(sample, category=f"{folder.name}/{sample.category}") for sample in found]
    if not samples and not problems:
        problems.append(Problem.at(root, "it holds no data set"))
    return samples


def _read_one(root: Path, layout: str, parquet: ParquetReader | None, problems: list[Problem]) -> list[Sample]:
    if layout == "visa":
        return read_visa(root, problems)
    if layout == "real_iad":
        return read_real_iad(root, problems)
    if layout == "table":
        return read_table(root, parquet, problems)
    return read_folders(root, FOLDER_LAYOUTS[layout], problems)
