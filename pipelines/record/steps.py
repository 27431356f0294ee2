"""What the record says of the aliases: which version was @champion after which step, and what is not finished."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.platform.aliases import CHAMPION, PREVIOUS
from pipelines.record.entry import Entry

REGISTRATION, RECALIBRATION, EXPORT = "registration", "recalibration", "export"
VERDICT, REFUSAL, PROPOSAL, APPROVAL = "verdict", "refusal", "proposal", "approval"
# Intents: written before any alias moves, with `from`, `to` and `previous` as they were found.
PROMOTION, ROLLBACK, FORCED = "promotion", "rollback", "forced"
# Written when the aliases stand, with `champion` and `previous`; `closes` is the number of the intent.
PROMOTED, REVERTED, ABANDONED = "promoted", "reverted", "abandoned"
# Aliases that were there before the record was, and aliases that somebody moved past it: from the champion that the
# record knows to the one that was found. By the `policy` a drift is accepted, or is an intent to put them back.
TAKEN_OVER, DRIFT = "taken over", "drift"
ACCEPT, PUT_BACK = "accept", "revert"

DriftPolicy = Literal["accept", "revert"]


@dataclass(frozen=True)
class State:
    """What the aliases are by the last finished step, whose entry is `step` (None before the first), and the intent
    that nobody has finished yet, if there is one.
    """

    champion: str | None = None
    previous: str | None = None
    step: Entry | None = None
    open: Entry | None = None

    @property
    def aliases(self) -> dict[str, str]:
        """Both, in MLflow's way."""
        both = {CHAMPION: self.champion, PREVIOUS: self.previous}
        return {alias: number for alias, number in both.items() if number is not None}


def is_intent(entry: Entry) -> bool:
    """Whether aliases are to move after it."""
    named = entry.kind in (PROMOTION, ROLLBACK, FORCED) and entry.text_of("to") is not None
    return named or _puts_back(entry)


def is_step(entry: Entry) -> bool:
    """Whether it says where the aliases stand."""
    return entry.kind in (PROMOTED, REVERTED, ABANDONED, TAKEN_OVER) or (entry.kind == DRIFT and not _puts_back(entry))


def _puts_back(entry: Entry) -> bool:
    return entry.kind == DRIFT and entry.details.get("policy") == PUT_BACK


def state_of(entries: Sequence[Entry]) -> State:
    """What the entries come to."""
    state = State()
    for entry in entries:
        if is_intent(entry):
            state = State(state.champion, state.previous, state.step, entry)
        elif is_step(entry):
            closes = entry.details.get("closes")
            if closes is not None and (state.open is None or closes != state.open.number):
                continue  # of an intent that somebody else finished
            state = State(entry.text_of("champion"), entry.text_of("previous"), entry)
    return state


def target(intent: Entry) -> dict[str, str | None]:
    """Where the aliases stand once an intent is carried out, in the order in which they move: from the moment that the
    champion is the new one, @previous is the old one.
    """
    to, old, older = intent.text_of("to"), intent.text_of("from"), intent.text_of("previous")
    if _puts_back(intent):
        return {PREVIOUS: older, CHAMPION: old}
    previous = older if old in (None, to) else old
    return {PREVIOUS: previous if previous != to else None, CHAMPION: to}


def moved_since(entries: Sequence[Entry], seen: State) -> list[Entry]:
    """The intents and steps after the state that was seen."""
    last = max((entry.number for entry in (seen.step, seen.open) if entry), default=0)
    return [entry for entry in entries if entry.number > last and (is_intent(entry) or is_step(entry))]


def champions(entries: Sequence[Entry]) -> list[str]:
    """Every version that has been @champion, by the record."""
    found: list[str | None] = []
    for entry in filter(is_step, entries):
        found += [entry.text_of("champion"), entry.text_of("previous") if entry.kind == TAKEN_OVER else None]
    return list(dict.fromkeys(number for number in found if number is not None))


def last_verdict(entries: Sequence[Entry], version: str) -> Entry | None:
    """The latest verdict on a version."""
    return next((e for e in reversed(entries) if e.kind == VERDICT and e.version == version), None)


SAID = {
    PROMOTION: "promotes",
    ROLLBACK: "rolls back to",
    FORCED: "forces",
    PROMOTED: "moved the aliases to",
    REVERTED: "put the aliases back to",
    ABANDONED: "gave up, the champion is",
    TAKEN_OVER: "found as champion, before there was a record,",
    DRIFT: "found the aliases moved by hand to",
    REGISTRATION: "registered",
    RECALIBRATION: "recalibrated as",
    EXPORT: "exported",
    VERDICT: "weighed",
    REFUSAL: "was refused",
    PROPOSAL: "proposed",
    APPROVAL: "approved",
}


def said(entry: Entry) -> str:
    """An entry in one line for people."""
    line = f"{entry.when}  {entry.actor} {SAID.get(entry.kind, entry.kind)} version {entry.version or 'none'}"
    more = [entry.text_of(name) for name in ("export", "outcome", "why", "reason", "policy")]
    return ": ".join([line, *(text for text in more if text)]) + f" (entry {entry.number})"
