"""The gate's report: one HTML page with the pictures in it, without script, for whoever owns the images."""

from collections.abc import Callable, Collection, Sequence
from html import escape

from PIL import Image

from pipelines.gate.finding import CHECKS, ERROR, Check, Finding
from pipelines.gate.look import picture
from pipelines.manifest.table import Manifest
from pipelines.platform.html import document, figure

PICTURES = 60  # a check: 30 pairs; some 5 kB each, so that the page stays below about 2 MB
OF_ONE = 12  # of one finding, so that others are seen too


def page(manifest: Manifest, findings: Sequence[Finding], ignored: Collection[str], white: int) -> str:
    """The whole page: a line a check, then each check with its findings and some of their pictures, in which `white` is
    that of 16 bits a channel.
    """

    def shown(path: str) -> Image.Image:
        """The picture lies as the pipeline reads it, without EXIF's turn."""
        return picture(manifest.root / path, white)

    by_check = {name: [f for f in findings if f.check == name] for name in CHECKS}
    summary = "".join(
        f'<tr><td><a href="#{name}">{check.title}</a></td>{_status(by_check[name], name in ignored)}</tr>'
        for name, check in CHECKS.items()
    )
    details = "".join(_section(shown, name, check, by_check[name]) for name, check in CHECKS.items())
    errors = sum(f.severity == ERROR for f in findings)
    verdict = "Errors stop the pipeline: mend them and run it again." if errors else "Nothing stops the pipeline."
    read = f"{len(manifest.rows)} pictures in {escape(str(manifest.root))} were read"
    tests = "test pictures only for copies and faults of their own: nothing is learnt or chosen by them"
    return document("Data gate", f"<p>{read}, {tests}. {verdict}</p><table>{summary}</table>{details}")


def _status(findings: Sequence[Finding], ignored: bool) -> str:
    errors = sum(f.severity == ERROR for f in findings)
    counts = ((errors, "error"), (len(findings) - errors, "warning"))
    said = [f'<span class="{word}">{n} {word}{"s" * (n > 1)}</span>' for n, word in counts if n]
    silenced = '<span class="off">not looked at (gate.ignore in params.yaml)</span>'
    nothing = silenced if ignored else '<span class="ok">ok</span>'
    return f"<td>{', '.join(said) or nothing}</td>"


def _section(image: Callable[[str], Image.Image], name: str, check: Check, findings: Sequence[Finding]) -> str:
    """A check with findings; nothing for one without."""
    if not findings:
        return f'<span id="{name}"></span>'
    shown: list[str] = []
    left = PICTURES
    for finding in findings:
        if left <= 0:
            shown.append(f"<p>{len(findings) - len(shown)} more are listed in the findings file (JSON).</p>")
            break
        shown.append(_finding(image, finding, finding.paths[: min(left, OF_ONE)]))
        left -= max(1, min(OF_ONE, len(finding.paths)))
    return (
        f'<h2 id="{name}">{check.title}</h2><p><b>What it means.</b> {check.meaning}</p>'
        f'<p><b>What to do.</b> {check.advice}</p><div class="findings">{"".join(shown)}</div>'
    )


def _finding(image: Callable[[str], Image.Image], finding: Finding, paths: Sequence[str]) -> str:
    pictures = "".join(figure(image(path), path) for path in paths)
    hidden = len(finding.paths) - len(paths)
    more = f"<p>{hidden} more are listed in the findings file (JSON).</p>" if hidden else ""
    text = f"<p><b>{escape(finding.category)}</b>: {escape(finding.text)}</p>"
    return f'<div class="finding {finding.severity}">{text}<div class="pictures">{pictures}</div>{more}</div>'
