"""Judgements of made-up methods, whose misses are known."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inpformer.metrics.bootstrap import mean_replicates
from inpformer.metrics.settings import BootstrapSettings
from pipelines.compare.judgement import Cell, Judgement
from pipelines.compare.metrics import Measured

DRAWS = BootstrapSettings(replicates=500)


def missing(missed: Mapping[Cell, Sequence[float] | NDArray[np.floating]]) -> Judgement:
    """One training's judgement: of each cell which of its defective parts are missed."""
    cells = {}
    for number, (cell, own) in enumerate(missed.items()):
        settings = BootstrapSettings(DRAWS.replicates, seed=number)
        drawn = mean_replicates(np.asarray(own, float), np.ones(len(own), bool), settings, smooth=True)
        cells[cell] = {"miss_rate": Measured(float(drawn[0]), drawn[1:], len(own))}
    return Judgement(cells, [], {"nut": 0.05}, Path("nowhere"))


def of_nuts(*seeds: Sequence[float] | NDArray[np.floating]) -> list[Judgement]:
    """A method's judgements on one category, one a seed."""
    return [missing({("nut", None): own}) for own in seeds]
