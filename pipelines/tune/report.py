"""The report of a search: its table, and pictures of what mattered, how it went and what the good trials share."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import optuna
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import FanovaImportanceEvaluator

from pipelines.tune.table import FINISHED, PICTURES, TABLE, Trial, best_so_far, write_table

COLOURS = colormaps["viridis"]
BEST_COLOUR, STOPPED_COLOUR = "#d7301f", "#9aa5b1"
TICKS = 5
TICK_BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
FEWEST_FOR_IMPORTANCE = 4
SAME = 1e-6  # objectives closer than that are equal


def write(trials: Sequence[Trial], space: Mapping[str, BaseDistribution], folder: Path) -> None:
    """Leaves the table in `folder` and three pictures in its PICTURES; one trial at least was judged."""
    write_table(trials, folder / TABLE)
    pictures = folder / PICTURES
    pictures.mkdir()
    best(trials, pictures / "best.png")
    judged = [trial for trial in trials if trial.objective is not None]
    parallel(judged, space, pictures / "parallel.png")
    importance(judged, space, pictures / "importance.png")


def best(trials: Sequence[Trial], file: Path) -> None:
    """Each trial's objective, in the order in which they ended, and the best so far of those of all epochs."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for finished, colour, label in ((True, BEST_COLOUR, "all epochs"), (False, STOPPED_COLOUR, "stopped early")):
        points = [
            (number, trial.objective)
            for number, trial in enumerate(trials, 1)
            if trial.objective is not None and (trial.state == FINISHED) == finished
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o", color=colour, label=label)
    so_far = np.array([np.nan if value is None else value for value in best_so_far(trials)])
    axes.step(range(1, len(trials) + 1), so_far, where="post", color=BEST_COLOUR, linewidth=1, label="best so far")
    axes.set(xlabel="trial", ylabel="objective", title="how the search went")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    _save(figure, file)


def parallel(trials: Sequence[Trial], space: Mapping[str, BaseDistribution], file: Path) -> None:
    """A line a trial across one axis a parameter and one for the objective, whose colour it has; those that were
    stopped early are thin.
    """
    figure, axes = plt.subplots(figsize=(2.2 * (len(space) + 1) + 1, 4.5), layout="constrained")
    objective = np.array([trial.objective for trial in trials], float)
    columns = [_position(distribution, [t.values[name] for t in trials]) for name, distribution in space.items()]
    colour = Normalize(float(objective.min()), max(float(objective.max()), float(objective.min()) + 1e-9))
    heights = np.column_stack([*columns, colour(objective)])
    for number in np.argsort(objective):  # the best on top
        thick = 2.0 if trials[number].state == FINISHED else 0.8
        axes.plot(heights[number], color=COLOURS(colour(objective[number])), linewidth=thick)
    for place, (name, distribution) in enumerate(space.items()):
        _axis(axes, place, distribution)
        axes.text(place, 1.07, name, ha="center", fontsize=9)
    axes.vlines(len(space), 0, 1, color="black", linewidth=1)
    for height in np.linspace(0, 1, TICKS):
        axes.text(len(space) + 0.03, height, f"{colour.inverse(height):.3f}", fontsize=8, va="center", bbox=TICK_BOX)
    axes.text(len(space), 1.06, "objective", ha="center", fontsize=9)
    axes.set(xlim=(-0.2, len(space) + 0.35), ylim=(-0.05, 1.12))
    axes.axis("off")
    _save(figure, file)


def _position(distribution: BaseDistribution, values: Sequence[float]) -> NDArray[np.float64]:
    """Values of a parameter as heights on its axis, from 0 to 1."""
    if isinstance(distribution, CategoricalDistribution):
        return np.array([distribution.choices.index(v) for v in values]) / (len(distribution.choices) - 1)
    scale = np.log if distribution.log else np.asarray  # type: ignore[attr-defined]
    low, high = scale(distribution.low), scale(distribution.high)  # type: ignore[attr-defined]
    return np.asarray((scale(values) - low) / (high - low), np.float64)


def _axis(axes: Axes, place: int, distribution: BaseDistribution) -> None:
    """One upright axis with the parameter's own values beside it."""
    axes.vlines(place, 0, 1, color="black", linewidth=1)
    if isinstance(distribution, CategoricalDistribution):
        values: Sequence[float] = distribution.choices  # type: ignore[assignment]
    else:
        low, high, log = distribution.low, distribution.high, distribution.log  # type: ignore[attr-defined]
        values = (np.geomspace if log else np.linspace)(low, high, TICKS).tolist()
        if isinstance(distribution, optuna.distributions.IntDistribution):
            values = sorted({round(value) for value in values})
    for value, height in zip(values, _position(distribution, values), strict=True):
        axes.text(place + 0.03, height, f"{value:.3g}", fontsize=8, va="center", bbox=TICK_BOX)


def importance(trials: Sequence[Trial], space: Mapping[str, BaseDistribution], file: Path) -> None:
    """How much of the difference between the trials each parameter explains, as a bar each.

    By fANOVA: of 16 trials in which one of five parameters mattered it named that one in 20 of 20 draws, Optuna's
    default, PED-ANOVA, in 14.
    """
    figure, axes = plt.subplots(figsize=(7, 1 + 0.5 * len(space)), layout="constrained")
    # The forests that fANOVA asks cannot tell apart what is as good as equal.
    reached = [trial.objective for trial in trials if trial.objective is not None]
    if len(trials) < FEWEST_FOR_IMPORTANCE or max(reached) - min(reached) < SAME:
        axes.text(0.5, 0.5, f"{len(trials)} trials say nothing of it", ha="center", transform=axes.transAxes)
        axes.axis("off")
    else:
        evaluator = FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(study(trials, space), evaluator=evaluator)
        names = sorted(shares, key=lambda name: shares[name])
        axes.barh(names, [shares[name] for name in names], color="#2c7fb8")
        axes.set(xlabel="share of what the parameters explain together", title=f"importance, from {len(trials)} trials")
    _save(figure, file)


def study(trials: Sequence[Trial], space: Mapping[str, BaseDistribution]) -> optuna.Study:
    """The trials as Optuna keeps them, each with the objective that it ended with."""
    made = optuna.create_study(direction="maximize")
    for trial in trials:
        made.add_trial(
            optuna.trial.create_trial(value=trial.objective, params=dict(trial.values), distributions=dict(space))
        )
    return made


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, dpi=110, format="png")
    plt.close(figure)
