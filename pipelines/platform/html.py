"""What all pages of the project have in common: one look, for a phone and in the dark too, and no script.

Everything is in the page itself: pictures are data URLs, and nothing is fetched.
"""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO

from PIL import Image

THUMBNAIL = 180  # pixels a side

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #222; --faint: #666; --line: #ccc; --box: #f6f6f4;
  --good: #1a7f37; --warn: #9a5b00; --bad: #c0191b }
@media (prefers-color-scheme: dark) { :root { --ground: #16181b; --text: #e4e4e2; --faint: #9a9c9f; --line: #44474b;
  --box: #212428; --good: #4cc26a; --warn: #e0a030; --bad: #ff7b72 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground); max-width: 66rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere }
h1 { margin-bottom: 0 } h2 { margin: 2.5rem 0 .3rem; border-top: 1px solid var(--line); padding-top: 1rem }
table { border-collapse: collapse; margin: 1.5rem 0 }
td { padding: .25rem 1.5rem .25rem 0; font-variant-numeric: tabular-nums }
th { text-align: left; font-weight: 600; padding: .25rem 1.5rem .25rem 0; vertical-align: bottom }
th, td { overflow-wrap: break-word; max-width: 16rem }
td.good, td .ok { color: var(--good) } td.bad { color: var(--bad) } td .warning { color: var(--warn) }
td .error { color: var(--bad); font-weight: bold } td .off { color: var(--faint) }
td small { color: var(--faint); white-space: nowrap } .wide { overflow-x: auto }
.findings { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(25rem, 100%), 1fr)); gap: 1.5rem;
  margin: 1rem 0 }
.finding { padding-left: 1rem; border-left: 4px solid #e0a030 } .finding.error { border-color: var(--bad) }
.finding.gain { border-color: var(--good) } .finding.same { border-color: var(--faint) }
.finding p { margin: 0 0 .4rem } .pictures { display: flex; flex-wrap: wrap; gap: .8rem }
figure { margin: 0; width: 180px } figure img { max-width: 180px; display: block }
figcaption { font-size: .75rem; overflow-wrap: anywhere }
.verdict { padding: .8rem 1.2rem; border-left: 6px solid var(--warn); background: var(--box); margin: 1.2rem 0 }
.verdict.ok { border-color: var(--good) } .verdict.error { border-color: var(--bad) }
.verdict b { font-size: 1.3rem }
"""


def document(title: str, body: str, style: str = "") -> str:
    """A whole page; `title` is plain text, `body` HTML, `style` what the page adds to the common look."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def table(head: Sequence[str], rows: str, name: str) -> str:
    """A table that scrolls sideways where it is too wide; `head` and `rows` are escaped."""
    columns = "".join(f"<th>{one}</th>" for one in head)
    return f'<div class="wide"><table id="{name}"><tr>{columns}</tr>{rows}</table></div>'


def thumbnail(image: Image.Image) -> str:
    """A data URL of a small copy."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}"


def figure(image: Image.Image, caption: str) -> str:
    """A small picture with a line below it, which is plain text."""
    return f'<figure><img src="{thumbnail(image)}" alt=""><figcaption>{escape(caption)}</figcaption></figure>'
