"""Whether entries are those that were written: one altered, missing or out of its place does not fit its neighbours."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipelines.record.entry import Entry, digest_of, parse


@dataclass(frozen=True)
class Fault:
    """What is wrong, and with which entry; of a version's files, with which version."""

    what: str
    number: int | None = None
    version: str | None = None

    def __str__(self) -> str:
        where = f"entry {self.number}" if self.number is not None else f"version {self.version}"
        return f"{where}: {self.what}"


def faults(model: str, texts: Mapping[int, str], head: tuple[int, str] | None = None) -> Iterator[Fault]:
    """What is wrong with the texts by number of one model's record. `head` is a number and digest noted elsewhere."""
    last = max([*texts, head[0] if head else 0])
    before = ""
    for number in range(1, last + 1):
        if number not in texts:
            yield Fault("is missing", number)
            before = "?"
            continue
        text = texts[number]
        try:
            entry = parse(text)
        except ValueError as error:
            yield Fault(f"cannot be read ({error})", number)
        else:
            if entry.number != number:
                yield Fault(f"stands in the place of another: it is entry {entry.number}", number)
            if entry.model != model:
                yield Fault(f"is of another model, {entry.model!r}", number)
            if before not in ("?", entry.before):
                yield Fault("was altered, or the entry after it: that one follows another text", max(1, number - 1))
        before = digest_of(text)
        if head and head[0] == number and head[1] != before:
            yield Fault("was altered: its digest was noted when it was written, and is another", number)


def readable(texts: Mapping[int, str]) -> list[Entry]:
    """The entries in their order; those that cannot be read are left out, and `faults` names them."""
    found = []
    for number in sorted(texts):
        try:
            entry = parse(texts[number])
        except ValueError:
            continue
        if entry.number == number:
            found.append(entry)
    return found
