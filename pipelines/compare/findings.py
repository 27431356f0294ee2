"""All that a comparison found, what it says in words, and its numbers as files."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipelines.compare.comparison import ALL_IMAGES, Estimate, Estimates, Line
from pipelines.compare.costs import MethodCost
from pipelines.compare.disagreement import Disagreement
from pipelines.compare.metrics import METRICS, Metric

TABLE, NUMBERS = "comparison.csv", "comparison.json"


@dataclass(frozen=True)
class Findings:
    """`lines` are the tables by what their lines are about, each with its estimates; `costs` are by method, `notes`
    sentences on how it was compared.
    """

    setting: str
    seeds: Mapping[str, int]
    confidence: float
    lines: Mapping[str, Sequence[tuple[Line, Estimates]]]
    costs: Mapping[str, MethodCost]
    notes: Sequence[str]
    disagreements: Sequence[Disagreement]

    @property
    def whole(self) -> Estimates:
        """Of all images."""
        ((_, estimates),) = self.lines[ALL_IMAGES]
        return estimates

    @property
    def metrics(self) -> list[Metric]:
        """Those that these images have."""
        return [metric for metric in METRICS if metric.name in self.whole]

    @property
    def methods(self) -> list[str]:
        """The best by the first metric first."""
        first = self.metrics[0]
        values = {method: one.value for method, one in self.whole[first.name].items()}
        return sorted(values, key=lambda method: -values[method] if first.higher else values[method])

    @property
    def abreast(self) -> list[str]:
        """The methods that no metric tells from its best."""
        return [name for name in self.methods if not any(own[name].differs for own in self.whole.values())]


def sentences(found: Findings) -> list[str]:
    """What is to be known first: a sentence a metric, then which method would be chosen."""
    said = [_sentence(metric, found.whole[metric.name], found.methods) for metric in found.metrics]
    if not (abreast := found.abreast):
        return [*said, "No method is abreast of the best by every metric: choose by what counts for you."]
    fastest = min(abreast, key=lambda name: found.costs[name].milliseconds)
    time = f"{found.costs[fastest].milliseconds:.1f} ms an image"
    if len(abreast) == 1:
        return [*said, f"{fastest} alone is shown to be worse by no metric ({time})."]
    return [*said, f"Of {', '.join(abreast)}, which no metric tells from its best, {fastest} is the fastest ({time})."]


def _sentence(metric: Metric, estimates: Mapping[str, Estimate], methods: Sequence[str]) -> str:
    best = [name for name in methods if estimates[name].best]
    worse = [name for name in methods if estimates[name].differs]
    alike = [name for name in methods if name not in (*best, *worse)]
    title = metric.title if metric.title[1].isupper() else metric.title[0].upper() + metric.title[1:]  # sPRO
    parts = [f"{title}: {_listed(best, 'is', 'are')} best, {shown(estimates[best[0]].value)}"]
    if worse:
        parts.append(f"{_listed(worse, 'is', 'are')} worse by more than chance")
    if alike:
        parts.append(f"{_listed(alike, 'does', 'do')} not differ by more than chance")
    return "; ".join(parts) + "."


def _listed(names: Sequence[str], one: str, several: str) -> str:
    return f"{', '.join(names)} {one if len(names) == 1 else several}"


def shown(value: float) -> str:
    """A metric as people read it."""
    return f"{value:.3f}"


def write(found: Findings, folder: Path) -> None:
    """The numbers, as JSON and as a table with a row a line, metric and method."""
    (folder / NUMBERS).write_text(json.dumps(_values(found), indent=2) + "\n")
    with (folder / TABLE).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("scope", "name", "metric", "method", *(field.name for field in fields(Estimate))))
        for lines in found.lines.values():
            for line, estimates in lines:
                for metric, own in estimates.items():
                    for method, one in own.items():
                        writer.writerow((line.scope, line.name, metric, method, *asdict(one).values()))


def _values(found: Findings) -> dict[str, Any]:
    return {
        "setting": found.setting,
        "seeds": dict(found.seeds),
        "confidence": found.confidence,
        "metrics": [asdict(metric) for metric in found.metrics],
        "costs": {method: asdict(cost) for method, cost in found.costs.items()},
        "lines": [
            {
                "scope": line.scope,
                "name": line.name,
                "metrics": {
                    metric: {method: asdict(one) for method, one in own.items()} for metric, own in estimates.items()
                },
            }
            for lines in found.lines.values()
            for line, estimates in lines
        ],
        "said": sentences(found),
        "notes": list(found.notes),
        "disagreements": [one.row.path for one in found.disagreements],
    }
