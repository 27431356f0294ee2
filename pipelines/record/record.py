"""The record of one registered model: read, and written to without ever losing an entry of somebody else's."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.platform.aliases import CHAMPION, PREVIOUS
from pipelines.platform.ledger import Held, Ledger
from pipelines.platform.registry import aliases
from pipelines.platform.signing import sign_text
from pipelines.record.chain import faults, readable
from pipelines.record.entry import Entry, digest_of, make
from pipelines.record.older import settle_note
from pipelines.record.steps import TAKEN_OVER

Check = Callable[[Sequence[Entry]], None]


class Record:
    """The entries of a model, in their order."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.model_name = ledger, ledger.model_name
        self._told: set[str] = set()

    @classmethod
    def open(cls, model_name: str) -> "Record":
        """The record of a model, begun if there is none: its first entry then says which aliases were there before."""
        aliases(model_name)  # an unknown model gets no record
        record = cls(Ledger.open(model_name))
        if not record.ledger.read().texts:
            settle_note(model_name)
            held = aliases(model_name)
            if CHAMPION in held or PREVIOUS in held:
                record._write(record.ledger.read(), TAKEN_OVER, held.get(CHAMPION), stands(held))
        return record

    def entries(self) -> list[Entry]:
        """All that can be read. What is wrong with them is said on stderr, once: whoever broke the record is not to
        keep anybody from the way back.
        """
        return self._readable(self.ledger.read())

    def append(self, kind: str, version: str | None, details: Mapping[str, Any], check: Check | None = None) -> Entry:
        """Writes an entry after the last one. `check` is shown all entries first, and raises if one of them forbids it:
        between its look and the writing nobody writes.
        """
        while True:
            held = self.ledger.read()
            if check is not None:
                check(self._readable(held))
            if (entry := self._write(held, kind, version, details)) is not None:
                return entry

    def _write(self, held: Held, kind: str, version: str | None, details: Mapping[str, Any]) -> Entry | None:
        """The entry, or None where somebody else wrote that number."""
        last = max(held.texts, default=0)
        before = digest_of(held.texts[last]) if last else ""
        entry = make(self.model_name, last + 1, before, kind, version, details)
        if not self.ledger.write(entry.number, entry.text, sign_text(entry.text)):
            return None
        self.ledger.note_head(entry.number, entry.digest)
        return entry

    def _readable(self, held: Held) -> list[Entry]:
        for fault in map(str, faults(self.model_name, held.texts, held.head)):
            if fault not in self._told:
                self._told.add(fault)
                print(f"the record of {self.model_name} is not as it was written: {fault}", file=sys.stderr)
        return [entry for entry in readable(held.texts) if entry.model == self.model_name]


def stands(held: Mapping[str, str]) -> dict[str, Any]:
    """The aliases as an entry has them."""
    return {"champion": held.get(CHAMPION), "previous": held.get(PREVIOUS)}
