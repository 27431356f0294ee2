"""VisA as it is published: a table of the one-class split beside the categories' folders.

Source: Zou et al., "SPot-the-Difference" (ECCV 2022), archive VisA_20220922.
"""

from pathlib import Path

from inpformer.images.layouts.listed import check_listed, read_csv, unmasked
from inpformer.images.layouts.sample import CLASS_NUMBERS, GOOD, Problem, Sample

VISA_SPLIT = "split_csv/1cls.csv"
LABELS = {"normal": GOOD, "anomaly": "anomaly"}


def read_visa(root: Path, problems: list[Problem]) -> list[Sample]:
    """The samples that `split_csv/1cls.csv` lists: columns object, split, label, image, mask, paths relative to
    `root`. All defects are of the kind "anomaly"; masks hold class numbers.

    Adds to `problems` every row or file that cannot be used. Raises UserError if the table cannot be read.
    """
    source = root / VISA_SPLIT
    samples = []
    for number, row in enumerate(read_csv(source, ("object", "split", "label", "image", "mask")), 1):
        if row["label"] not in LABELS or row["split"] not in ("train", "test"):
            strange = f"label {row['label']!r} in split {row['split']!r} is not VisA's"
            problems.append(Problem.at(f"{source}, row {number}", strange))
            continue
        image = root / row["image"]
        masks = (root / row["mask"],) if row["mask"] else ()
        samples.append(Sample(image, row["object"], row["split"], LABELS[row["label"]], masks, CLASS_NUMBERS))
    problems += unmasked(samples, source)
    problems += check_listed(samples, source, root)
    return samples
