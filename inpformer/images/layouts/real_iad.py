"""Real-IAD: a JSON file a category says which image is what; five cameras see each part.

Source: Wang et al., "Real-IAD" (CVPR 2024), its archives realiad_jsons and realiad_<size>.
"""

import json
import re
from pathlib import Path
from typing import Any

from inpformer.errors import UserError
from inpformer.images.layouts.listed import check_listed, unmasked
from inpformer.images.layouts.sample import GOOD, Problem, Sample, list_folders

REAL_IAD_LISTS = "realiad_jsons"
OK = "OK"
Entry = tuple[str, dict[str, Any]]  # split, what the JSON file says of one image


def read_real_iad(root: Path, problems: list[Problem]) -> list[Sample]:
    """The samples that `realiad_jsons/<category>.json` (or `realiad_jsons/realiad_jsons/`, as the archive unpacks)
    lists. Images lie below `<folder>/<meta.prefix>`, the folder being `root` or one in it such as `realiad_1024`: where
    several hold a category, the one whose name ends in the largest number. The views in one sample folder (`S0001`) are
    one part.

    Adds to `problems` every list or file that cannot be used. Raises UserError if there is no list.
    """
    lists = root / REAL_IAD_LISTS
    lists = lists / REAL_IAD_LISTS if (lists / REAL_IAD_LISTS).is_dir() else lists
    files = sorted(lists.glob("*.json"))
    if not files:
        raise UserError(f"{lists} holds no <category>.json: unpack Real-IAD's {REAL_IAD_LISTS} there.")
    return [sample for file in files for sample in _read_category(root, file, problems)]


def _read_category(root: Path, file: Path, problems: list[Problem]) -> list[Sample]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        prefix = content["meta"]["prefix"]
        entries = [(split, entry) for split in ("train", "test") for entry in content[split]]
        folders = _image_folders(root, prefix, entries)
        if len(folders) != 1:
            found = " and ".join(str(folder) for folder in folders) or "none"
            problems.append(Problem.at(file, f"{root} must have one folder with its images in {prefix}, found {found}"))
            return []
        samples = [_sample(folders[0] / prefix, split, entry) for split, entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems.append(Problem.at(file, f"no list of Real-IAD ({type(error).__name__}: {error})"))
        return []
    problems += unmasked(samples, file)
    problems += check_listed(samples, file, root)
    return samples


def _image_folders(root: Path, prefix: str, entries: list[Entry]) -> list[Path]:
    """The folders that hold images of a category, of those with a size in their name only the largest: one, if all is
    well.
    """
    sizes = {root: 0}
    for folder in list_folders(root):
        number = re.search(r"\d+$", folder.name)
        sizes[folder] = int(number[0]) if number else 0
    held = [f for f in sizes if any((f / prefix / entry["image_path"]).is_file() for _, entry in entries)]
    return [f for f in held if sizes[f] == max(sizes[g] for g in held)]


def _sample(folder: Path, split: str, entry: dict[str, Any]) -> Sample:
    image = Path(entry["image_path"])
    for name in ("category", "anomaly_class"):
        if not isinstance(entry[name], str):
            raise TypeError(f"{name} is {entry[name]!r}, no text")
    good = entry["anomaly_class"] == OK
    return Sample(
        path=folder / image,
        category=entry["category"],
        split=split,
        defect=GOOD if good else entry["anomaly_class"],
        masks=(folder / entry["mask_path"],) if entry["mask_path"] and not good else (),
        part=image.parent.as_posix() if re.fullmatch(r"S\d+", image.parent.name) else "",
    )
