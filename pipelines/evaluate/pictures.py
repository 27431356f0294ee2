"""The pictures that people look at: loss curves, score histograms, ROC and precision-recall curves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from inpformer.metrics.image import precision_recall_curve, roc_curve
from pipelines.calibrate.gallery import BAD_COLOUR, GOOD_COLOUR, save

# Of a picture with a panel a metric: inches, and how many of them stay legible side by side.
PAGE_WIDTH, PANELS_A_ROW = 10.0, 4


@dataclass(frozen=True)
class CategoryScores:
    """The test scores of one category: `scores` [n] and `labels` [n], 1 for anomalous."""

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    threshold: float


def histograms(categories: Mapping[str, CategoryScores], file: Path) -> None:
    """The image scores of good and defective test images, and the threshold, a row a category."""
    figure, rows = plt.subplots(
        len(categories), figsize=(8, 2.2 * len(categories) + 0.5), layout="constrained", squeeze=False
    )
    for axes, (name, c) in zip(rows[:, 0], categories.items(), strict=True):
        edges = np.linspace(float(c.scores.min()), float(c.scores.max()) + 1e-9, 41)
        for label, colour, text in ((0, GOOD_COLOUR, "good"), (1, BAD_COLOUR, "defective")):
            axes.hist(c.scores[c.labels == label], edges, color=colour, alpha=0.65, label=text)
        axes.axvline(c.threshold, color="black", linestyle="--", label="threshold")
        axes.set(title=name, xlabel="image score", ylabel="images")
        axes.legend(frameon=False)
    save(figure, file)


def curves(categories: Mapping[str, CategoryScores], file: Path) -> None:
    """ROC and precision-recall curves of the image scores, a line a category."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    for name, c in categories.items():
        roc, pr = roc_curve(c.scores, c.labels), precision_recall_curve(c.scores, c.labels)
        left.plot(roc.fpr, roc.tpr, label=name)
        right.step(pr.recall, pr.precision, where="pre", label=name)
    left.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    left.set(xlabel="false-positive rate", ylabel="true-positive rate", title="ROC", aspect="equal")
    right.set(xlabel="recall", ylabel="precision", title="precision and recall", ylim=(0, 1.03))
    left.legend(frameon=False)
    save(figure, file)


def intervals(
    metrics: Mapping[str, Mapping[str, float]],
    bounds: Mapping[str, Mapping[str, tuple[float, float]]],
    folder: Path,
) -> None:
    """Each category's metrics with their confidence intervals, a panel a metric: intervals.png in `folder`, as wide as
    a page.
    """
    names = list(dict.fromkeys(name for by_name in bounds.values() for name in by_name))
    columns = min(len(names), PANELS_A_ROW)
    rows = math.ceil(len(names) / columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(PAGE_WIDTH, rows * (0.8 + 0.25 * len(metrics))),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for axes in grid.flat[len(names) :]:
        axes.axis("off")
    for axes, name in zip(grid.flat, names, strict=False):
        for number, (category, values) in enumerate(metrics.items()):
            if name in bounds[category]:
                low, high = bounds[category][name]
                axes.plot([low, high], [number, number], color=GOOD_COLOUR, linewidth=4, alpha=0.4)
                axes.plot(values[name], number, "o", color=GOOD_COLOUR, markersize=5)
        axes.set(title=name, ylim=(len(metrics) - 0.5, -0.5))
        axes.set_yticks(range(len(metrics)), list(metrics))
        axes.locator_params(axis="x", nbins=4)
        axes.grid(axis="x", alpha=0.3)
    save(figure, folder / "intervals.png")


def overlay(image: Image.Image, anomaly_map: Image.Image, answer: Mapping[str, Any], file: Path) -> None:
    """What the service saw in one picture: image, map, and the boxes and outlines of the regions.

    `anomaly_map` is its 8-bit map, where half of full scale is the threshold; `answer` its JSON.
    """
    left, top, right, bottom = answer["map_box"]  # the service's crop leaves the margin of some pictures out
    inside = anomaly_map.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    heat = np.full((image.height, image.width), np.nan, np.float32)
    heat[top:bottom, left:right] = np.asarray(inside, np.float32) / 127.5
    figure, panels = plt.subplots(1, 3, figsize=(12, 4.6), layout="constrained")
    figure.suptitle(
        f"{answer['category']}: {answer['decision']}, score {answer['score']:.3f}, threshold "
        f"{answer['threshold']:.3f}, {answer['model_name']} version {answer['model_version']}"
    )
    panels[0].imshow(image)
    panels[1].imshow(heat, vmin=0, vmax=2, cmap="inferno")
    panels[2].imshow(image)
    if answer["regions"]:
        panels[2].contour(heat, [1.0], colors=[BAD_COLOUR], linewidths=1.5)
    for region in answer["regions"]:
        left, top, right, bottom = region["box"]
        panels[2].add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, color="white", linestyle=":")
        )
    for axes, title in zip(panels, ("image", "anomaly map, 1 = threshold", "regions above the threshold"), strict=True):
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    figure.colorbar(panels[1].images[0], ax=panels[1], shrink=0.7)
    save(figure, file)
