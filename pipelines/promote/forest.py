"""The differences as a picture: an interval a measure and category, and the margin that it must stay right of."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import pyplot as plt

from pipelines.calibrate.gallery import BAD_COLOUR, GOOD_COLOUR, save
from pipelines.promote.compare import Compared
from pipelines.promote.decide import NAMES

SHOWN = 40  # categories: those that come nearest to a margin
WIDTH = 2.1  # inches a measure
UNSURE_COLOUR = "#777777"


def draw_forest(compared: Sequence[Compared], file: Path) -> None:
    """A panel a measure; the first row is the mean, in bold."""
    measures = list(dict.fromkeys(one.measure for one in compared))
    rows = [None, *_shown(compared)]
    figure, grid = plt.subplots(
        1,
        max(1, len(measures)),
        figsize=(1.6 + WIDTH * max(1, len(measures)), 1.4 + 0.36 * len(rows)),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    by_place = {(one.measure, one.category): one for one in compared}
    for axes, measure in zip(grid[0], measures, strict=False):
        for place, category in enumerate(rows):
            if (one := by_place.get((measure, category))) is None:
                continue
            colour = GOOD_COLOUR if one.held else BAD_COLOUR if one.high < 0 else UNSURE_COLOUR
            weight = 3 if category is None else 1.5
            axes.plot([one.low, one.high], [place, place], color=colour, linewidth=weight, solid_capstyle="butt")
            axes.plot(one.difference, place, "o", color=colour, markersize=6 if category is None else 4)
            axes.plot([-one.margin] * 2, [place - 0.4, place + 0.4], color=BAD_COLOUR, linestyle=":", linewidth=1.5)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_title(NAMES[measure], fontsize=12)
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(labelsize=10)
    first = grid[0][0]
    first.set_yticks(range(len(rows)), ["mean" if name is None else _short(name) for name in rows], fontsize=11)
    first.set_ylim(len(rows) - 0.4, -0.6)
    figure.supxlabel("challenger less the other; dotted: the margin", fontsize=11)
    save(figure, file)


def _shown(compared: Sequence[Compared]) -> list[str]:
    spare: dict[str, float] = {}
    for one in compared:
        if one.category is not None:
            spare[one.category] = min(spare.get(one.category, 1.0), one.low + one.margin)
    return sorted(sorted(spare, key=lambda name: spare[name])[:SHOWN])


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"
