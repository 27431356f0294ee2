"""Which version was champion when, as far as the record knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pipelines.record.entry import Entry
from pipelines.record.steps import DRIFT, TAKEN_OVER, is_intent, is_step


@dataclass(frozen=True)
class Reign:
    """A version was champion from some moment between `earliest` (None: before there was a record) and `latest`:
    aliases move a moment before that is recorded, and whoever moves them by hand records nothing. `entry` says so.
    """

    version: str | None
    earliest: datetime | None
    latest: datetime
    entry: Entry


def reigns(entries: Sequence[Entry]) -> list[Reign]:
    """In their order."""
    found: list[Reign] = []
    begun: Entry | None = None
    settled: datetime | None = None  # when the aliases were last known to be what the record says
    for entry in entries:
        if entry.kind == DRIFT:
            found.append(Reign(entry.text_of("to"), settled, entry.time, entry))
            begun, settled = (entry if is_intent(entry) else None), entry.time
        elif is_intent(entry):
            begun = entry
        elif is_step(entry):
            closes = entry.details.get("closes")
            if entry.kind != TAKEN_OVER and (begun is None or closes != begun.number):
                continue
            earliest = begun.time if begun else None
            found.append(Reign(entry.text_of("champion"), earliest, entry.time, entry))
            begun, settled = None, entry.time
    return found


def champions_at(entries: Sequence[Entry], time: datetime) -> list[Reign]:
    """The versions that may have been champion at a time: one where the record knows, more while aliases moved or where
    somebody moved them by hand, none before there was one.
    """
    every = reigns(entries)
    found: dict[str | None, Reign] = {}
    for number, reign in enumerate(every):
        over = number + 1 < len(every) and every[number + 1].latest <= time
        if not over and (reign.earliest is None or reign.earliest <= time):
            found.setdefault(reign.version, reign)
    return list(found.values())
