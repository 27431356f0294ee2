"""The proof as one HTML page with its pictures in it, without script."""

from html import escape

from pipelines.export.proof import MAP_FACTOR, Proof
from pipelines.platform.html import document, table
from pipelines.promote.page import OWN_STYLE, flips_shown


def page(proof: Proof, title: str) -> str:
    """The whole page."""
    faults = "".join(f"<p>{escape(fault)}</p>" for fault in proof.faults)
    ours, theirs = proof.milliseconds
    speed = f"{ours:.1f} ms an image (median, one thread, this machine), PyTorch {theirs:.1f} ms."
    verdict = "It is refused." if proof.faults else "It decides as PyTorch does."
    rows = "".join(
        f"<tr><td>{escape(one.category)}</td><td>{one.images}</td><td>{one.flipped}</td><td>{one.on_edge}</td><td>{one.scores:.2g}</td>"
        f"<td>{one.maps:.2g}</td><td>{one.unit:.4g}</td></tr>"
        for one in proof.compared
    )
    head = ("category", "images", "decided differently", "on the edge", "scores differ by", "maps differ by", "unit")
    return document(
        title,
        f'<div class="verdict {"error" if proof.faults else "ok"}" id="verdict"><b>{verdict}</b>{faults}'
        f"<p>{speed}</p></div>{table(head, rows, 'categories')}"
        "<p>The largest differences, in the usual distance between the score of a held-out good part and its threshold "
        f"(the unit); up to {proof.tolerance:g} is allowed, of a map's pixel {MAP_FACTOR} times that. The export's "
        f"thresholds stand {proof.tolerance:g} units higher, and both are held against these. On the edge: between "
        "them and the version's, as held-out images are that set a threshold.</p>"
        f"<h2>Decided differently</h2>{flips_shown(proof.flips)}",
        OWN_STYLE,
    )
