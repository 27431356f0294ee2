"""The losses of a training as a picture."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from pipelines.platform import files

LABELS = {"loss": "training", "val_loss": "held-out good images"}
NOT_LOSSES = {"epoch", "gradient_norm", "lr", "refused_steps"}


def draw_losses(history: Sequence[Mapping[str, float]], file: Path) -> None:
    """Training and validation loss by epoch, and the terms of the loss."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    if not history:
        axes.text(0.5, 0.5, "nothing was trained by steps", ha="center", transform=axes.transAxes)
        axes.axis("off")
    names = dict.fromkeys(name for row in history for name in row)  # phases may have losses of their own
    for name in (name for name in names if name not in NOT_LOSSES):
        label = LABELS.get(name, f"{name.replace('_', ' ')} (training)")
        axes.plot([row["epoch"] for row in history], [row.get(name, math.nan) for row in history], label=label)
    if history:
        axes.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
        axes.legend(frameon=False)
    with files.written_whole(file) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
