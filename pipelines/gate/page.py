"""The gate's report: one HTML page with the pictures in it, without script, for whoever owns the images."""

from base64 import b64encode
from collections.abc import Callable, Collection, Sequence
from html import escape
from io import BytesIO

from PIL import Image

from pipelines.gate.finding import CHECKS, ERROR, Check, Finding
from pipelines.gate.look import picture
from pipelines.manifest.table import Manifest

PICTURES = 60  # a check: 30 pairs; some 5 kB each, so that the page stays below about 2 MB
OF_ONE = 12  # of one finding, so that others are seen too
THUMBNAIL = 180  # pixels a side

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
h1 { margin-bottom: 0 } h2 { margin: 2.5rem 0 .3rem; border-top: 1px solid #ccc; padding-top: 1rem }
table { border-collapse: collapse; margin: 1.5rem 0 } td { padding: .25rem 1.5rem .25rem 0 }
td .ok { color: #1a7f37 } td .warning { color: #9a5b00 } td .error { color: #c0191b; font-weight: bold }
td .off { color: #777 }
.findings { display: grid; grid-template-columns: repeat(auto-fill, minmax(25rem, 1fr)); gap: 1.5rem; margin: 1rem 0 }
.finding { padding-left: 1rem; border-left: 4px solid #e0a030 } .finding.error { border-color: #c0191b }
.finding p { margin: 0 0 .4rem } .pictures { display: flex; flex-wrap: wrap; gap: .8rem }
figure { margin: 0; width: 180px } figure img { max-width: 180px; display: block }
figcaption { font-size: .75rem; overflow-wrap: anywhere }
"""


def page(manifest: Manifest, findings: Sequence[Finding], ignored: Collection[str], white: int) -> str:
    """The whole page: a line a check, then each check with its findings and some of their pictures, in which `white` is
    that of 16 bits a channel.
    """

    def shown(path: str) -> str:
        """A data URL. The picture lies as the pipeline reads it, without EXIF's turn."""
        return thumbnail(picture(manifest.root / path, white))

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
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data gate</title>'
        f"<style>{STYLE}</style></head><body><h1>Data gate</h1>"
        f"<p>{read}, {tests}. {verdict}</p>"
        f"<table>{summary}</table>{details}</body></html>\n"
    )


def _status(findings: Sequence[Finding], ignored: bool) -> str:
    errors = sum(f.severity == ERROR for f in findings)
    counts = ((errors, "error"), (len(findings) - errors, "warning"))
    said = [f'<span class="{word}">{n} {word}{"s" * (n > 1)}</span>' for n, word in counts if n]
    silenced = '<span class="off">not looked at (gate.ignore in params.yaml)</span>'
    nothing = silenced if ignored else '<span class="ok">ok</span>'
    return f"<td>{', '.join(said) or nothing}</td>"


def _section(image: Callable[[str], str], name: str, check: Check, findings: Sequence[Finding]) -> str:
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


def _finding(image: Callable[[str], str], finding: Finding, paths: Sequence[str]) -> str:
    pictures = "".join(
        f'<figure><img src="{image(path)}" alt=""><figcaption>{escape(path)}</figcaption></figure>' for path in paths
    )
    hidden = len(finding.paths) - len(paths)
    more = f"<p>{hidden} more are listed in the findings file (JSON).</p>" if hidden else ""
    text = f"<p><b>{escape(finding.category)}</b>: {escape(finding.text)}</p>"
    return f'<div class="finding {finding.severity}">{text}<div class="pictures">{pictures}</div>{more}</div>'


def thumbnail(image: Image.Image) -> str:
    """A data URL of a small copy."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}"
