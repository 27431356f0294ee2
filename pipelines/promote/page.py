"""The verdict as one HTML page with its pictures in it, without script, for whoever answers for the line."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pipelines.platform.html import document, table
from pipelines.promote.compare import MEASURES, Compared
from pipelines.promote.cost import Cost
from pipelines.promote.decide import NAMES, Decisions
from pipelines.promote.flips import Flip, Flips
from pipelines.promote.seen import beside
from pipelines.promote.verdict import BETTER, NOT_WORSE, WORSE, Outcome

COLOURS: Mapping[Outcome, str] = {BETTER: "ok", NOT_WORSE: "ok", WORSE: "error"}

OWN_STYLE = """
.forest { max-width: 100% } #categories small { display: block }
.findings.flips { grid-template-columns: repeat(auto-fill, minmax(min(30rem, 100%), 1fr)) }
.flips figure { width: 150px } .flips figure img { width: 150px }
"""


@dataclass(frozen=True)
class Shown:
    """What the page shows. `names` are the challenger's and the other's; `notes` are sentences on how it was weighed;
    `costs` are by name, of those that were measured, and `broken` the budgets that the challenger breaks.
    """

    outcome: Outcome
    sentence: str
    allows: bool
    names: tuple[str, str]
    notes: Sequence[str]
    compared: Sequence[Compared]
    decisions: Decisions
    costs: Mapping[str, Cost]
    broken: Sequence[str]
    flips: Flips


def page(shown: Shown, forest: Path) -> str:
    """The whole page; `forest` is the picture of the differences."""
    one, two = map(escape, shown.names)
    kind = COLOURS.get(shown.outcome, "") if shown.allows or shown.outcome == WORSE else ""
    allowed = "It may be promoted." if shown.allows else "It is not promoted without --force."
    notes = "".join(f"<li>{escape(note)}</li>" for note in shown.notes)
    picture = b64encode(forest.read_bytes()).decode()
    title = f"{shown.names[0]} against {shown.names[1]}"
    title = title[0].upper() + title[1:]
    return document(
        title,
        f'<div class="verdict {kind}" id="verdict"><b>{escape(shown.outcome)}</b>'
        f"<p>{escape(shown.sentence)}</p><p>{allowed}</p></div>"
        f"<h2>What differs</h2>{means_shown(shown.compared, one, two)}"
        f'<img class="forest" id="forest" alt="differences" src="data:image/png;base64,{picture}">'
        "<p>Green, or blue: it is shown to fall by less than it may. Red: it is shown to fall, and may fall by more. "
        "Neither: too few parts to say.</p>"
        f"<h2>Each category</h2>{categories_shown(shown.compared)}"
        f"<h2>Decisions</h2>{decisions_shown(shown.decisions, one, two)}"
        f"<h2>Costs</h2>{_costs(shown.costs, shown.broken)}"
        f"<h2>Decided differently</h2>{flips_shown(shown.flips)}"
        f"<h2>How it was weighed</h2><ul>{notes}</ul>",
        OWN_STYLE,
    )


def means_shown(compared: Sequence[Compared], one: str, two: str) -> str:
    """A row a measure; `one` and `two` are the names of both, escaped."""
    rows = "".join(
        f"<tr><td>{NAMES[c.measure]}</td><td>{c.challenger:.3f}</td><td>{c.other:.3f}</td>{_difference(c)}"
        f"<td>{c.margin:.3g}</td><td>{c.parts}</td></tr>"
        for c in compared
        if c.category is None
    )
    head = ("mean over the categories", one, two, "difference", "may fall by", "parts")
    return table(head, rows, "means")


def categories_shown(compared: Sequence[Compared]) -> str:
    """The differences of each category, a column a measure."""
    by_category: dict[str, dict[str, Compared]] = {}
    for c in compared:
        if c.category is not None:
            by_category.setdefault(c.category, {})[c.measure] = c
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(_difference(own.get(measure)) for measure in MEASURES)}</tr>"
        for name, own in by_category.items()
    )
    return table(("category", *(NAMES[measure] for measure in MEASURES)), rows, "categories")


def _difference(c: Compared | None) -> str:
    if c is None:
        return "<td>–</td>"
    kind = "good" if c.held else "bad" if c.high < 0 else ""
    return f'<td class="{kind}">{c.difference:+.3f} <small>[{c.low:+.3f}, {c.high:+.3f}]</small></td>'


def decisions_shown(found: Decisions, one: str, two: str) -> str:
    """Parts by who decides them right; `one` and `two` are the names of both, escaped."""
    rows = (
        f"<tr><td>{one} right</td><td>{found.both}</td><td>{found.challenger_alone}</td></tr>"
        f"<tr><td>{one} wrong</td><td>{found.other_alone}</td><td>{found.neither}</td></tr>"
    )
    said = (
        "Parts of all categories. Right: a defective part does not PASS, a good one does not FAIL. As unequal a split "
        f"of those that one alone decides right comes about by chance with p {found.p_value:.2g} (McNemar, exact)."
    )
    return table(("", f"{two} right", f"{two} wrong"), rows, "decisions") + f"<p>{said}</p>"


def _costs(costs: Mapping[str, Cost], broken: Sequence[str]) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{c.p50_ms:.1f} ms</td><td>{c.p99_ms:.1f} ms</td><td>{c.memory_mb:.0f} MB</td>"
        f"<td>{c.images}</td></tr>"
        for name, c in costs.items()
    )
    if len(costs) > 1:
        one, two = list(costs.values())[:2]
        ratios = (one.p50_ms / two.p50_ms, one.p99_ms / two.p99_ms, one.memory_mb / two.memory_mb)
        rows += f"<tr><td>ratio</td>{''.join(f'<td>{ratio:.2f}</td>' for ratio in ratios)}<td></td></tr>"
    said = "".join(f'<p class="verdict error">{escape(one)}</p>' for one in broken)
    head = ("", "an image, median", "an image, 99th percentile", "peak memory", "images")
    return table(head, rows, "costs") + f"<p>One image at a time, one thread, on this machine.</p>{said}"


def flips_shown(flips: Flips) -> str:
    """What two versions decide differently about, with pictures."""
    if not flips.count:
        return "<p>Both decide alike about every test image.</p>"
    more = flips.count - len(flips.clearest)
    said = f"{flips.count} test images, the clearest first" + (f"; {more} more are not shown" if more else "")
    shown = "".join(_flip(flip, flips.names) for flip in flips.clearest)
    return f'<p>{said}. The red outline is the true defect.</p><div class="findings flips">{shown}</div>'


def _flip(flip: Flip, names: Sequence[str]) -> str:
    return beside(flip.row, flip.seen, names, {True: "gain", False: "error", None: "same"}[flip.better])
