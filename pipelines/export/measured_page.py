"""What was measured of an export as one HTML page with its pictures in it, without script."""

from html import escape

from pipelines.export.measured import METRICS, NAMES, Measured
from pipelines.platform.html import document, table
from pipelines.promote.page import OWN_STYLE, categories_shown, decisions_shown, flips_shown, means_shown


def page(measured: Measured, title: str) -> str:
    """The whole page."""
    one, two = map(escape, NAMES)
    faults = "".join(f"<p>{escape(fault)}</p>" for fault in measured.faults)
    verdict = "It is refused." if measured.faults else f"Against PyTorch: {measured.concluded.outcome}."
    kind = "error" if measured.faults else "ok"
    ours, theirs = measured.milliseconds
    speed = f"{ours:.1f} ms an image (median, one thread, this machine), PyTorch {theirs:.1f} ms."
    promises = "".join(f"<li>{escape(text)}</li>" for text in measured.promises.values())
    return document(
        title,
        f'<div class="verdict {kind}" id="verdict"><b>{verdict}</b>{faults}'
        f"<p>{escape(measured.concluded.reasons)}</p><p>{speed}</p></div>"
        f"<h2>Measured on the test images, each by its own thresholds</h2>{_metrics(measured)}"
        f"<h2>What the export's thresholds promise</h2><ul>{promises}</ul>"
        f"<h2>What differs</h2>{means_shown(measured.compared, one, two)}{categories_shown(measured.compared)}"
        f"<h2>Decisions</h2>{decisions_shown(measured.decisions, one, two)}"
        f"<h2>Decided differently</h2>{flips_shown(measured.flips)}",
        OWN_STYLE,
    )


def _metrics(measured: Measured) -> str:
    rows = "".join(
        f"<tr><td>{escape(category)}</td><td>{measured.images[category]}</td>"
        + "".join(_both(*own[name]) if name in own else "<td>–</td>" for name in METRICS)
        + "</tr>"
        for category, own in measured.metrics.items()
    )
    head = ("category", "images", *(name.replace("_", " ") for name in METRICS))
    return table(head, rows, "metrics") + "<p>The export, and below it PyTorch.</p>"


def _both(ours: float, theirs: float) -> str:
    return f"<td>{ours:.3f}<br><small>{theirs:.3f}</small></td>"
