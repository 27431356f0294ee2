"""The losses of a training as a picture."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from pipelines.platform import files

LABELS = {"loss": "training", "val_loss": "held-out good images"}
NOT_LOSSES = {"epoch", "gradient_norm", "lr", "refused_steps"}


def draw_losses(history: Sequence[Mapping[str, float]], file: Path) -> None:
    """Training and validation loss by epoch, and the terms of the loss: a panel for each training, as each has losses
    of its own.
    """
    trainings = [list(rows) for _, rows in groupby(history, key=_losses)] or [[]]
    figure, panels = plt.subplots(
        1, len(trainings), figsize=(7 * len(trainings), 4), layout="constrained", squeeze=False
    )
    for axes, rows in zip(panels[0], trainings, strict=True):
        _draw(axes, rows)
    with files.written_whole(file) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)


def _losses(row: Mapping[str, float]) -> list[str]:
    return [name for name in row if name not in NOT_LOSSES]


def _draw(axes: Axes, rows: Sequence[Mapping[str, float]]) -> None:
    if not rows:
        axes.text(0.5, 0.5, "nothing was trained by steps", ha="center", transform=axes.transAxes)
        axes.axis("off")
        return
    for name in _losses(rows[0]):
        label = LABELS.get(name, f"{name.replace('_', ' ')} (training)")
        axes.plot([row["epoch"] for row in rows], [row[name] for row in rows], label=label)
    lowest = axes.get_ylim()[0]
    axes.set(xlabel="epoch", ylabel="loss", ylim=(min(0.0, lowest), None))  # a likelihood's may be below 0
    axes.legend(frameon=False)
