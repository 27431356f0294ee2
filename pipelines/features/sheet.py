"""Contact sheets of the pictures with defects, one a category: a person sees what is learnt from before it is."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from heapq import nsmallest
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from inpformer.images.transform import Transform
from pipelines.features.anomalies import AnomalyPictures, AnomalyView, Defect, DefectPictures, Made
from pipelines.features.index import Plan
from pipelines.manifest.table import Manifest, Row

matplotlib.use("Agg")

from matplotlib import pyplot as plt

PICTURES, LIST = "pictures", "pictures.csv"
EXAMPLES = 8  # a category
SIDE = 256  # pixels of a picture
OUTLINE = (255, 0, 0)
DIMMED = 3  # times darker: what is not the object


def draw_sheets(manifest: Manifest, plan: Plan[Any] | None, transform: Transform, folder: Path) -> None:
    """Writes PICTURES/<number>.png for each category, pictures chosen by their keys alone, real defects among them, and
    the list of them; an empty list without a plan.
    """
    (folder / PICTURES).mkdir(parents=True)
    chosen_of = {} if plan is None else _chosen(manifest, plan)
    with (folder / LIST).open("w", newline="") as file:
        csv.writer(file).writerows([("file", "category"), *((f"{n}.png", c) for n, c in enumerate(sorted(chosen_of)))])
    for number, (category, chosen) in enumerate(sorted(chosen_of.items())):
        made = []
        for row, view in chosen:
            assert plan is not None
            pictures = plan.read(row, [view])
            assert isinstance(pictures, AnomalyPictures | DefectPictures)
            made.append((_title(view), pictures.made(transform)[0]))
        _draw(category, made, folder / PICTURES / f"{number}.png")


def _chosen(manifest: Manifest, plan: Plan[Any]) -> dict[str, list[tuple[Row, Any]]]:
    """By category, the training views with the lowest keys, one an image; up to half of them are real defects."""
    found: dict[tuple[str, int], list[tuple[str, Row, Any]]] = defaultdict(list)
    for row in manifest.rows:
        if row.split == "train" and (seen := plan.views(row)):
            key, view = min(((view.key(row.sha256), view) for view in seen), key=lambda pair: pair[0])
            kind = found[row.category, row.label]
            kind.append((key, row, view))
            if len(kind) > 2 * EXAMPLES:
                kind[:] = nsmallest(EXAMPLES, kind, key=lambda one: one[0])
    chosen: dict[str, list[tuple[Row, Any]]] = defaultdict(list)
    for (category, label), kind in sorted(found.items()):
        most = EXAMPLES // 2 if (category, 1 - label) in found else EXAMPLES
        chosen[category] += [(row, view) for _, row, view in nsmallest(most, kind, key=lambda one: one[0])]
    return chosen


def _title(view: Any) -> str:
    if not isinstance(view, AnomalyView):
        return "a real defect"
    if isinstance(view.source, Defect):
        return "a real defect, pasted"
    return "a procedural texture" if view.source is None else "a texture of a picture"


def _draw(category: str, made: Sequence[tuple[str, Made]], file: Path) -> None:
    columns = ("good picture, dark where its object is not", "with a defect", "where the defect is")
    figure, axes = plt.subplots(
        len(made), len(columns), figsize=(7.5, 2.6 * len(made)), layout="constrained", squeeze=False
    )
    figure.suptitle(f"{category}: pictures that the model learns defects from", fontsize=10, parse_math=False)
    for row, (title, one) in zip(axes, made, strict=True):
        dimmed = np.where(one.inside[..., None], one.good, one.good // DIMMED)
        for axis, picture in zip(row, (dimmed, one.changed, outlined(one.changed, one.mask)), strict=True):
            axis.imshow(np.asarray(Image.fromarray(picture).resize((SIDE, SIDE))))
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(title, fontsize=8)
    for axis, column in zip(axes[0], columns, strict=True):
        axis.set_title(column, fontsize=8)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def outlined(picture: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The picture with a line around what is marked."""
    edge = ndimage.binary_dilation(mask, iterations=2) & ~mask
    return np.where(edge[..., None], np.array(OUTLINE, np.uint8), picture)
