"""An entry of the record: one line of canonical JSON that holds the digest of the entry before it."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from inpformer.errors import UserError
from pipelines.record.actor import actor

OWN = ("model", "number", "id", "time", "actor", "kind", "version", "before")
# Characters: MLflow cuts a longer parameter off without a word.
LONGEST = 6000
REASON = 1000  # of what people give as a reason


@dataclass(frozen=True)
class Entry:
    """`text` is what MLflow holds; `before` is the sha256 (hex) of the text of the entry before, "" of the first one.
    `details` is what belongs to the kind.
    """

    text: str
    model: str
    number: int
    id: str
    time: datetime
    actor: str
    kind: str
    version: str | None
    before: str
    details: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """sha256 (hex) of the text."""
        return digest_of(self.text)

    @property
    def when(self) -> str:
        """Its time for people."""
        return f"{self.time:%Y-%m-%d %H:%M:%S} UTC"

    def text_of(self, name: str) -> str | None:
        """A detail that is a text, or None."""
        value = self.details.get(name)
        return value if isinstance(value, str) else None


def digest_of(text: str) -> str:
    """sha256 (hex) of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def make(model: str, number: int, before: str, kind: str, version: str | None, details: Mapping[str, Any]) -> Entry:
    """An entry by whoever runs this, now; `before` is the digest of the one before. Raises UserError if it is longer
    than MLflow holds.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    own = (model, number, uuid.uuid4().hex, now, actor(), kind, version, before)
    text = canonical({**{k: v for k, v in details.items() if v is not None}, **dict(zip(OWN, own, strict=True))})
    if len(text) > LONGEST:
        raise UserError(
            f"the entry ({kind} of {model} version {version}) would have {len(text)} characters, more than the "
            f"{LONGEST} that the record holds: shorten what you gave it."
        )
    return parse(text)


def parse(text: str) -> Entry:
    """Reads an entry. Raises ValueError for what is none."""
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(values, dict) or not all(name in values for name in OWN):
        raise ValueError("not an entry's table")
    texts = [values[name] for name in ("model", "id", "time", "actor", "kind", "before")]
    if not all(isinstance(value, str) for value in texts) or not isinstance(values["version"], str | None):
        raise ValueError("a value of the wrong type")
    if type(values["number"]) is not int:
        raise ValueError("no number")
    time = datetime.fromisoformat(values["time"])
    if time.tzinfo is None:
        raise ValueError("a time without zone")
    own = {name: values.pop(name) for name in OWN}
    return Entry(text, **{**own, "time": time.astimezone(UTC)}, details=values)


def canonical(values: Mapping[str, Any]) -> str:
    """One text for one table, whoever writes it."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def checked_reason(text: str) -> str:
    """A reason that people gave, in one line. Raises UserError for an empty or a long one, or one that is no text."""
    line = " ".join(text.split())
    if not line or len(line) > REASON or not line.isprintable():
        what = "empty" if not line else f"{len(line)} characters long" if line.isprintable() else "not readable text"
        raise UserError(f"the reason is {what}: give one of 1 to {REASON} printable characters.")
    return line
