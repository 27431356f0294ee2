"""The intervals of each metric as a picture that the page draws itself: sharp, and in its own colours."""

from html import escape

from pipelines.compare.findings import Findings
from pipelines.compare.metrics import Metric

BARS_STYLE = """
.bars { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 1.5rem 2rem }
.bars svg { width: 100%; display: block } .bars text { fill: currentColor; font: 12px system-ui, sans-serif }
.bars .axis { stroke: var(--line) } .bars .interval { stroke: var(--faint); stroke-width: 4 }
.bars .point { fill: var(--faint) } .bars .best .point { fill: var(--good) } .bars .bad .point { fill: var(--bad) }
.bars .best .interval { stroke: var(--good) } .bars .bad .interval { stroke: var(--bad) }
"""
WIDTH, LEFT, RIGHT, ROW = 400, 110, 12, 24  # of a drawing, in its own units
TICKS = 4


def bars(found: Findings) -> str:
    """A drawing a metric: a line a method, from the lowest bound of all to the highest."""
    drawn = "".join(f"<div><b>{escape(metric.title)}</b>{_drawing(found, metric)}</div>" for metric in found.metrics)
    return f'<div class="bars" id="bars">{drawn}</div>'


def _drawing(found: Findings, metric: Metric) -> str:
    estimates = found.whole[metric.name]
    low, high = min(one.low for one in estimates.values()), max(one.high for one in estimates.values())
    span = max(high - low, 1e-3)

    def at(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / span

    height = ROW * (len(found.methods) + 1)
    lines = []
    for tick in range(TICKS):
        value = low + span * tick / (TICKS - 1)
        place = f"{at(value):.1f}"
        lines.append(
            f'<line class="axis" x1="{place}" x2="{place}" y1="0" y2="{height - ROW}"/>'
            f'<text x="{place}" y="{height - 8}" text-anchor="{_anchor(tick)}">{value:.2f}</text>'
        )
    for number, method in enumerate(found.methods):
        one, y = estimates[method], ROW * (number + 0.5)
        kind = "best" if one.best else "bad" if one.differs else ""
        lines.append(
            f'<g class="{kind}"><text x="0" y="{y + 4:.0f}">{escape(_short(method))}</text>'
            f'<line class="interval" x1="{at(one.low):.1f}" x2="{at(one.high):.1f}" y1="{y:.0f}" y2="{y:.0f}"/>'
            f'<circle class="point" cx="{at(one.value):.1f}" cy="{y:.0f}" r="6"/></g>'
        )
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(lines)}</svg>'


def _anchor(tick: int) -> str:
    return "end" if tick == TICKS - 1 else "middle"


def _short(method: str) -> str:
    return method if len(method) <= 15 else f"{method[:14]}…"
