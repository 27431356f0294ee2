"""The report: the metrics of all categories as a Markdown table and as JSON, and whether promises held, in words."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from inpformer.judging.plausibility import Plausibility
from inpformer.metrics.bootstrap import Interval, Replicates, intervals
from inpformer.metrics.proportion import mean_interval
from inpformer.metrics.settings import BootstrapSettings
from pipelines.evaluate.measure import LEADING, Report
from pipelines.evaluate.promise import Outcome, untested

Numbers = dict[str, float]
# What metrics.json has of a setting: the means that people compare, few enough for a screen, to so many digits.
COMPARED, DIGITS = (*LEADING, "image_auroc", "aupro", "spro"), 4


def mean(reports: Mapping[str, Report]) -> Numbers:
    """Metric by metric over the categories that have it, LEADING first."""
    named = [name for report in reports.values() for name in report.metrics]
    names = dict.fromkeys([*(name for name in LEADING if name in named), *named])
    return {name: fmean(r.metrics[name] for r in reports.values() if name in r.metrics) for name in names}


def mean_intervals(reports: Mapping[str, Report], settings: BootstrapSettings) -> dict[str, Interval]:
    """The confidence intervals of `mean`."""
    replicates: dict[str, Replicates] = {}
    exact: dict[str, Interval] = {}
    for name in mean(reports):
        if proportions := [r.proportions[name] for r in reports.values() if name in r.proportions]:
            exact[name] = mean_interval(proportions, settings.confidence)
        else:
            replicates[name] = np.mean([r.replicates[name] for r in reports.values() if name in r.replicates], axis=0)
    return intervals(replicates, settings) | exact


def summary(
    reports: Mapping[str, Report],
    outcomes: Mapping[str, Outcome],
    data_sets: Sequence[str],
    settings: BootstrapSettings,
) -> dict[str, Any]:
    """What evaluation.json holds of a setting, numbers in tables alone: the mean, the data sets where there are
    several, the categories, the intervals of what leads, whether promises held, and how many images are doubted.
    """
    whole: dict[str, Any] = {"mean": mean(reports)}
    if data_sets:
        whole["data_set"] = {
            name: mean({c: report for c, report in reports.items() if c.startswith(f"{name}/")}) for name in data_sets
        }
    return whole | {
        "category": {category: report.metrics for category, report in reports.items()},
        "interval": {
            "mean": _leading(mean_intervals(reports, settings)),
            "category": {category: _leading(report.intervals(settings)) for category, report in reports.items()},
        },
        "promise": {category: outcome.numbers for category, outcome in outcomes.items()},
        "doubted": {
            category: {"good": report.doubted[0], "defective": report.doubted[1]}
            for category, report in reports.items()
        },
    }


def _leading(bounds: Mapping[str, Interval]) -> dict[str, Numbers]:
    return {name: {"low": bounds[name][0], "high": bounds[name][1]} for name in LEADING if name in bounds}


def compared(mean: Numbers) -> Numbers:
    """What metrics.json holds of a setting's means."""
    return {name: round(mean[name], DIGITS) for name in COMPARED if name in mean}


def sentences(categories: Iterable[str], outcomes: Mapping[str, Outcome], looked: bool) -> str:
    """Whether the promised false-alarm rate held on the good test parts, an item of a Markdown list a category, and
    what that takes where nobody `looked` for near duplicates.
    """
    said = [outcomes[name].sentence(name) if name in outcomes else untested(name) for name in categories]
    if not looked:
        said.append("all of this takes the pictures to be of different parts: near duplicates were not looked for")
    return "".join(f"- {one}\n" for one in said)


def doubts(reports: Mapping[str, Report], known: Plausibility) -> str:
    """How many test images are doubted to show their category, an item of a Markdown list a category."""
    lines = []
    for category, report in reports.items():
        bound = known.bound(category)
        if bound is None:
            lines.append(f"{category}: whether a picture shows one is not checked: too few held-out good parts")
            continue
        good, defective = (f"{report.doubted[label]} of {int((report.labels == label).sum())}" for label in (0, 1))
        lines.append(
            f"{category}: {good} good and {defective} defective test pictures are doubted to show one, and are not a "
            f"PASS; of good ones at most {bound:.1%} on average"
        )
    return "".join(f"- {one}\n" for one in lines)


def table(setting: str, reports: Mapping[str, Report], settings: BootstrapSettings) -> str:
    """The metrics as a Markdown table, each with its confidence interval where it has one."""
    columns = list(mean(reports))
    # A list: a category may be called mean.
    rows = [(name, report.metrics, report.intervals(settings)) for name, report in reports.items()]
    rows.append(("mean", mean(reports), mean_intervals(reports, settings)))
    lines = [
        f"{setting}; in brackets the {settings.confidence:.0%} interval of {settings.replicates} bootstrap draws "
        "of the test images, of rates (shares of the parts) the exact one",
        "",
        "| category | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for row, metrics, bounds in rows:
        cells = [
            f"{metrics[name]:.3f} [{bounds[name][0]:.3f}, {bounds[name][1]:.3f}]" if name in metrics else "–"
            for name in columns
        ]
        lines.append("| " + row.replace("|", r"\|") + " | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
