"""Pictures in rows, each with what the detector saw in it: image, anomaly map, and the map over the image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from pipelines.platform import files

matplotlib.rcParams["text.parse_math"] = False  # two dollars in a category's name are no formula
GOOD_COLOUR, BAD_COLOUR = "#2c7fb8", "#d7301f"


@dataclass(frozen=True)
class Shown:
    """One picture of the gallery: `image`, `mask` and `anomaly_map` are of one size; `threshold` of its category."""

    title: str
    image: Image.Image
    mask: NDArray[np.bool_]
    anomaly_map: NDArray[np.float32]
    threshold: float


def draw_gallery(pictures: Sequence[Shown], file: Path) -> None:
    """Three pictures in a row for each: image with the true outline, map, map over image."""
    columns = 2 if len(pictures) > 1 else 1
    rows = math.ceil(len(pictures) / columns)
    figure, grid = plt.subplots(
        rows, columns * 3, figsize=(columns * 7, rows * 2.6), layout="constrained", squeeze=False
    )
    for axes in grid.flat:
        axes.axis("off")
    for number, shown in enumerate(pictures):
        row, column = divmod(number, columns)
        image, heat, both = grid[row, column * 3 : column * 3 + 3]
        image.imshow(shown.image)
        if shown.mask.any():
            image.contour(shown.mask, [0.5], colors=[BAD_COLOUR], linewidths=1)
        image.set_title(shown.title, fontsize=8, loc="left")
        heat.imshow(shown.anomaly_map, vmin=0, vmax=2 * shown.threshold, cmap="inferno")
        both.imshow(shown.image)
        both.imshow(shown.anomaly_map, vmin=0, vmax=2 * shown.threshold, cmap="inferno", alpha=0.5)
        if (shown.anomaly_map > shown.threshold).any():
            both.contour(shown.anomaly_map, [shown.threshold], colors=["white"], linewidths=1)
    save(figure, file)


def save(figure: Figure, file: Path) -> None:
    """Writes a picture whole, or not at all."""
    with files.written_whole(file) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
