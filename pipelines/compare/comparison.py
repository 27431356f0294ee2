"""How methods compare: of each metric the value with its interval, and whether it differs from the best.

All methods judge the same images, so differences are paired, part by part, as in a promotion
(`inpformer.metrics.paired`); the seeds of both add their spread (`inpformer.metrics.seeds`). Which method is best is
found on the same images, so that every pair of methods counts as a comparison: Holm's correction is over all of them,
and in a table of several lines over those of all lines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from inpformer.metrics.holm import holm, levels
from inpformer.metrics.paired import Paired, mean_of
from inpformer.metrics.seeds import over_seeds
from pipelines.compare.judgement import Cell, Judgement
from pipelines.compare.metrics import METRICS, Metric

MIDDLE = 0.5  # of what a metric may be: a part that is missing moves it by as much to either side
ALL_IMAGES, CATEGORY, KIND = "all", "category", "kind"
Judgements = Mapping[str, Sequence[Judgement]]  # by method, one a seed


@dataclass(frozen=True)
class Line:
    """What a line of a table is about: all images, a category or a kind of defect, and the cells that it is the mean
    of.
    """

    scope: str
    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Estimate:
    """A metric of one method: the mean over its seeds and the line's cells, from `low` to `high` with the confidence
    asked for. `difference` is that to the best method, with bounds at the level that Holm's correction leaves;
    `differs` says that these exclude 0, `p_value` is the corrected one. Several may be `best`, and have no difference.
    """

    value: float
    low: float
    high: float
    best: bool
    difference: float = 0.0
    difference_low: float = 0.0
    difference_high: float = 0.0
    p_value: float = 1.0
    differs: bool = False


Estimates = dict[str, dict[str, Estimate]]  # by metric and method


@dataclass(frozen=True)
class _Pooled:
    """A metric of one method on a line: its mean of each seed [s]; of each cell the mean over the seeds of the value
    and of the replicates, and the independent parts. `number` is the method's.
    """

    number: int
    seeds: tuple[float, ...]
    cells: tuple[tuple[float, NDArray[np.float64], int], ...]

    @property
    def value(self) -> float:
        return float(np.mean(self.seeds))


def lines_of(judgements: Judgements) -> dict[str, list[Line]]:
    """The tables by what their lines are about."""
    cells = list(next(iter(judgements.values()))[0].cells)
    whole = [cell for cell in cells if cell[1] is None]
    kinds = sorted({kind for _, kind in cells if kind is not None})
    return {
        ALL_IMAGES: [Line(ALL_IMAGES, "", tuple(whole))],
        CATEGORY: [Line(CATEGORY, category, ((category, kind),)) for category, kind in whole],
        KIND: [Line(KIND, kind, tuple(cell for cell in cells if cell[1] == kind)) for kind in kinds],
    }


def compare(judgements: Judgements, lines: Sequence[Line], confidence: float) -> list[Estimates]:
    """The estimates of each line; a metric that a line has not, as no defect of it has a mask, is left out."""
    found: list[Estimates] = [{} for _ in lines]
    for metric in METRICS:
        pooled = {
            place: {
                method: _pool(number, own, cells, metric) for number, (method, own) in enumerate(judgements.items())
            }
            for place, line in enumerate(lines)
            if (cells := _having(judgements, line, metric))
        }
        pairs = {
            (place, one, other): _difference(methods[one], methods[other])
            for place, methods in pooled.items()
            for one, other in combinations(methods, 2)
        }
        p_values = {pair: paired.p_value for pair, paired in pairs.items()}
        corrected, level = holm(p_values), levels(p_values, 1 - confidence)
        for place, methods in pooled.items():
            best = _best(methods, metric)
            estimates = {}
            for method, own in methods.items():
                bounds = _interval(own, confidence)
                if own.value == methods[best].value:  # the best, or one as good
                    estimates[method] = Estimate(own.value, *bounds, best=True)
                    continue
                pair = (place, method, best) if (place, method, best) in pairs else (place, best, method)
                against = _difference(own, methods[best])
                sides = against.low(level[pair] / 2), against.high(level[pair] / 2)
                differs = p_values[pair] <= level[pair]
                estimates[method] = Estimate(
                    own.value, *bounds, False, against.difference, *sides, corrected[pair], differs
                )
            found[place][metric.name] = estimates
    return found


def _having(judgements: Judgements, line: Line, metric: Metric) -> list[Cell]:
    """The line's cells that the metric is known of, for all."""
    if line.scope == KIND and not metric.of_kinds:
        return []
    every = [one for own in judgements.values() for one in own]
    return [cell for cell in line.cells if all(metric.name in one.cells[cell] for one in every)]


def _pool(number: int, judgements: Sequence[Judgement], cells: Sequence[Cell], metric: Metric) -> _Pooled:
    measured = [[one.cells[cell][metric.name] for one in judgements] for cell in cells]
    return _Pooled(
        number,
        tuple(float(np.mean([own[seed].value for own in measured])) for seed in range(len(judgements))),
        tuple(
            (float(np.mean([one.value for one in own])), np.mean([one.replicates for one in own], axis=0), own[0].parts)
            for own in measured
        ),
    )


def _best(methods: Mapping[str, _Pooled], metric: Metric) -> str:
    """The first of equals."""
    return max(methods, key=lambda name: methods[name].value if metric.higher else -methods[name].value)


def _interval(own: _Pooled, confidence: float) -> tuple[float, float]:
    centred = mean_of([Paired(value - MIDDLE, drawn - MIDDLE, parts, MIDDLE) for value, drawn, parts in own.cells])
    spread = over_seeds(centred, own.seeds, own.number)
    rest = (1 - confidence) / 2
    return max(0.0, MIDDLE + spread.low(rest)), min(1.0, MIDDLE + spread.high(rest))


def _difference(one: _Pooled, other: _Pooled) -> Paired:
    """The first less the second; the same with the other sign, the other way round."""
    if one.number > other.number:
        turned = _difference(other, one)
        return replace(turned, difference=-turned.difference, replicates=-turned.replicates)
    paired = mean_of(
        [
            Paired(mine[0] - theirs[0], mine[1] - theirs[1], mine[2])
            for mine, theirs in zip(one.cells, other.cells, strict=True)
        ]
    )
    return over_seeds(over_seeds(paired, one.seeds, one.number), other.seeds, other.number)
