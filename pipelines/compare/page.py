"""The comparison as one HTML page with its pictures in it, without script, for whoever chooses a detector."""

from collections.abc import Mapping, Sequence
from html import escape

from pipelines.compare.bars import BARS_STYLE, bars
from pipelines.compare.comparison import CATEGORY, KIND, Estimate, Estimates, Line
from pipelines.compare.findings import Findings, sentences, shown
from pipelines.compare.metrics import Metric
from pipelines.platform.html import document, table
from pipelines.promote.seen import beside

STYLE = (
    BARS_STYLE
    + """
td.best { font-weight: 600 } td small { display: block } summary { cursor: pointer; margin: .6rem 0 }
#methods td:first-child, #methods td:nth-last-child(-n+3) { white-space: nowrap }
.findings.maps { grid-template-columns: 1fr }
.maps figure { width: 150px } .maps figure img { width: 150px }
.verdict p { margin: .2rem 0 }
"""
)
LEGEND = (
    "Below each figure its {confidence:.0%} interval. Bold: the best. Red: worse than the best by more than chance. "
    "Neither: chance alone may have made the difference."
)


def page(found: Findings) -> str:
    """The whole page."""
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences(found))
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    return document(
        "Which detector",
        f'<p>{escape(", ".join(found.methods))}; {escape(found.setting)}.</p><div class="verdict" id="verdict">{said}'
        f"</div><h2>The methods</h2>{_methods(found)}<p>{LEGEND.format(confidence=found.confidence)}</p>"
        f"{bars(found)}"
        f"<h2>By category</h2>{_by_line(found, CATEGORY)}"
        f"<h2>By kind of defect</h2>{_by_line(found, KIND)}"
        f"<h2>Where they disagree</h2>{_disagreements(found)}"
        f"<h2>How it was compared</h2><ul>{notes}</ul>",
        STYLE,
    )


def _methods(found: Findings) -> str:
    head = [
        "method",
        *(escape(metric.title) for metric in found.metrics),
        "an image",
        "memory",
        "training",
    ]
    rows = "".join(
        f"<tr><td>{escape(method)}</td>{''.join(_cell(found.whole[metric.name][method]) for metric in found.metrics)}"
        f"{_costs(found, method)}</tr>"
        for method in found.methods
    )
    return table(head, rows, "methods")


def _cell(one: Estimate | None) -> str:
    if one is None:
        return "<td>–</td>"
    kind = "best" if one.best else "bad" if one.differs else ""
    against = ""
    if not one.best:
        bounds = f"[{one.difference_low:+.3f}, {one.difference_high:+.3f}]"
        against = f' title="{one.difference:+.3f} {bounds} against the best, p {one.p_value:.2g}"'
    interval = f"<small>[{shown(one.low)}, {shown(one.high)}]</small>"
    return f'<td class="{kind}"{against}>{shown(one.value)} {interval}</td>'


def _costs(found: Findings, method: str) -> str:
    cost = found.costs[method]
    taken = f"{cost.training_seconds:.0f} s" if cost.training_seconds < 600 else f"{cost.training_seconds / 60:.0f} min"
    told = (f"{cost.milliseconds:.1f} ms", f"{cost.memory_mb:.0f} MB", f"{found.seeds[method]} × {taken}")
    return "".join(f"<td>{one}</td>" for one in told)


def _by_line(found: Findings, scope: str) -> str:
    """A table a metric, the first one open."""
    lines = found.lines[scope]
    metrics = [metric for metric in found.metrics if any(metric.name in estimates for _, estimates in lines)]
    return "".join(
        f"<details{' open' if not number else ''}><summary>{escape(metric.title)}</summary>"
        f"{_table_of(metric, lines, found.methods, f'{scope}-{metric.name}')}</details>"
        for number, metric in enumerate(metrics)
    )


def _table_of(metric: Metric, lines: Sequence[tuple[Line, Estimates]], methods: Sequence[str], name: str) -> str:
    rows = "".join(
        f"<tr><td>{escape(line.name)}</td>"
        f"{''.join(_cell(_of(estimates, metric).get(method)) for method in methods)}</tr>"
        for line, estimates in lines
    )
    return table(("", *map(escape, methods)), rows, name)


def _of(estimates: Estimates, metric: Metric) -> Mapping[str, Estimate]:
    return estimates.get(metric.name, {})


def _disagreements(found: Findings) -> str:
    if not found.disagreements:
        return "<p>All methods decide alike about every test image, as far as FAIL goes.</p>"
    methods = found.methods
    blocks = "".join(
        beside(one.row, [one.seen[method] for method in methods], methods, _kind(one.row.label))
        for one in found.disagreements
    )
    said = (
        f"{len(found.disagreements)} test images of which some methods say FAIL and others do not, of each kind those "
        "first about which both sides are sure. Of each method its first training; the red outline is the true "
        "defect, the middle of the colours the method's threshold."
    )
    return f'<p>{said}</p><div class="findings maps">{blocks}</div>'


def _kind(label: int) -> str:
    return "error" if label else "same"
