"""How aliases move: what is to be done is in the record before anything moves, so that whoever comes next, whatever was
killed, can finish or undo it.

MLflow sets one alias at a time and knows no condition. The record does: an intent is written where nobody has written
another one since the aliases were read, and whoever moves an alias looks before each write whether its intent is open.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from inpformer.errors import UserError
from pipelines.platform.aliases import CHAMPION, PREVIOUS
from pipelines.platform.registry import aliases, has_version, set_alias
from pipelines.record.actor import host
from pipelines.record.entry import Entry
from pipelines.record.record import Record, stands
from pipelines.record.steps import (
    ABANDONED,
    ACCEPT,
    DRIFT,
    PROMOTED,
    PUT_BACK,
    REVERTED,
    DriftPolicy,
    State,
    last_verdict,
    moved_since,
    said,
    state_of,
    target,
)

# So long (seconds) others wait for a process that has announced a move and is silent, unless they see that it is gone.
LEASE = 30.0
LOOK = 0.5


class OvertakenError(UserError):
    """Somebody else moved the aliases, or is about to, since they were read."""


def ready(record: Record, policy: DriftPolicy, lease: float = LEASE) -> State:
    """The state that a command starts from: what others began is finished or undone, and what was moved by hand is
    recorded, and accepted or put back.
    """
    while True:
        entries = record.entries()
        state = state_of(entries)
        if state.open is not None:
            _await(record, state.open, lease)
            _settle(record, state.open)
            continue
        held = aliases(record.model_name)
        if {CHAMPION: held.get(CHAMPION), PREVIOUS: held.get(PREVIOUS)} == {
            CHAMPION: state.champion,
            PREVIOUS: state.previous,
        }:
            return state
        try:
            _note_drift(record, entries, state, held, policy)
        except OvertakenError:
            continue


def move(record: Record, seen: State, kind: str, to: str, details: Mapping[str, Any]) -> State:
    """Makes `to` the champion and the one before it @previous, if the aliases are what was seen; returns the state
    after it. Raises OvertakenError, and changes nothing, if somebody else was faster.
    """
    announced = {"from": seen.champion, "to": to, "previous": seen.previous, "host": host(), "pid": os.getpid()}
    intent = record.append(kind, to, {**details, **announced}, lambda entries: unmoved(entries, seen))
    carry_out(record, intent)
    entries = record.entries()
    if given_up := [e for e in entries if e.kind == ABANDONED and e.details.get("closes") == intent.number]:
        raise UserError(f"{record.model_name} version {to} is not promoted: {given_up[0].text_of('why')} meanwhile.")
    return state_of(entries)


def _settle(record: Record, intent: Entry) -> None:
    """Finishes what another process began, where it had moved the champion, and undoes it where it had not: its writer
    may not be allowed to move an alias, and whoever settles it is.
    """
    if intent.kind == DRIFT or aliases(record.model_name).get(CHAMPION) == target(intent)[CHAMPION]:
        carry_out(record, intent)
    else:
        _give_up(record, intent, "it was cut off before the champion moved")


def carry_out(record: Record, intent: Entry) -> None:
    """Moves the aliases as an intent says and records that they stand, unless somebody else has done that."""
    aims = target(intent)
    if gone := [number for number in aims.values() if number and not has_version(record.model_name, number)]:
        _give_up(record, intent, f"version {gone[0]} was deleted")
        return
    for alias, number in aims.items():
        if aliases(record.model_name).get(alias) == number:
            continue
        if not _is_open(record.entries(), intent):
            return
        set_alias(record.model_name, alias, number)
    stand = {alias: number for alias, number in aims.items() if number is not None}
    _close(record, intent, REVERTED if intent.kind == DRIFT else PROMOTED, stand)


def _give_up(record: Record, intent: Entry, why: str) -> None:
    """Takes back what an intent moved of @previous, and records that the aliases stand as before it: where somebody
    moved them besides, that is drift.
    """
    state, name = state_of(record.entries()), record.model_name
    if state.open is None or state.open.number != intent.number:
        return
    if aliases(name).get(PREVIOUS) == target(intent)[PREVIOUS] != state.previous:
        set_alias(name, PREVIOUS, state.previous if state.previous and has_version(name, state.previous) else None)
    _close(record, intent, ABANDONED, state.aliases, why)


def _close(record: Record, intent: Entry, kind: str, stand: Mapping[str, str], why: str | None = None) -> None:
    """Records that an intent is done, or given up, and where the aliases stand."""
    details = {**stands(stand), "closes": intent.number, "began": intent.actor, "why": why}

    def check(entries: Sequence[Entry]) -> None:
        if not _is_open(entries, intent):
            raise OvertakenError("finished by somebody else")

    try:
        record.append(kind, stand.get(CHAMPION), details, check)
    except OvertakenError:
        return


def _is_open(entries: Sequence[Entry], intent: Entry) -> bool:
    found = state_of(entries).open
    return found is not None and found.number == intent.number


def unmoved(entries: Sequence[Entry], seen: State) -> None:
    """Raises OvertakenError if aliases moved, or are about to, since the state was seen."""
    if since := moved_since(entries, seen):
        raise OvertakenError(
            f"{since[0].actor} was faster: {said(since[-1])}. Nothing was changed by this call: look at what stands "
            f"now (`python -m pipelines.audit since --time {since[0].time.isoformat()}`), then run again if you still "
            f"want it."
        )


def _await(record: Record, intent: Entry, lease: float) -> None:
    """Returns when an intent is finished, its process is gone, or its lease is over."""
    if _gone(intent):
        print(f"it was cut off: {said(intent)}", file=sys.stderr)
        return
    age = max(0.0, (datetime.now(UTC) - intent.time).total_seconds())
    end = time.monotonic() + max(0.0, lease - age)
    if time.monotonic() < end:
        print(f"waiting, {lease - age:.0f} seconds at most, for {said(intent)}", file=sys.stderr)
    while time.monotonic() < end and _is_open(record.entries(), intent) and not _gone(intent):
        time.sleep(LOOK)


def _gone(intent: Entry) -> bool:
    """Whether the process that wrote an intent ran on this machine and runs no more. One that took its number since
    looks alive: then the lease decides.
    """
    pid = intent.details.get("pid")
    if intent.details.get("host") != host() or type(pid) is not int or pid <= 0:
        return False
    if pid == os.getpid():
        return True  # an earlier move of this very process: it is not at it now
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _note_drift(
    record: Record, entries: Sequence[Entry], state: State, held: Mapping[str, str], policy: DriftPolicy
) -> None:
    """Records that the aliases are others than the last step left, and what is done about it."""
    lost = [number for number in state.aliases.values() if not has_version(record.model_name, number)]
    done = ACCEPT if lost else policy
    found = held.get(CHAMPION)
    why = f"version {lost[0]} was deleted" if lost else None
    details: dict[str, Any] = {"policy": done, "from": state.champion, "to": found, "why": why}
    if done == PUT_BACK:
        details |= {"previous": state.previous, "found": stands(held), "host": host(), "pid": os.getpid()}
    else:
        details |= {**stands(held), "expected": state.aliases}
    drift = record.append(DRIFT, found, details, lambda now: unmoved(now, state))
    print(_drift_sentence(record.model_name, entries, state, held, drift), file=sys.stderr)
    if done == PUT_BACK:
        carry_out(record, drift)


def _drift_sentence(name: str, entries: Sequence[Entry], state: State, held: Mapping[str, str], drift: Entry) -> str:
    shown = [f"@{alias} is {held.get(alias, 'none')}, not {state.aliases.get(alias, 'none')}" for alias in ALIASES]
    changed = [text for alias, text in zip(ALIASES, shown, strict=True) if held.get(alias) != state.aliases.get(alias)]
    line = f"{name}: aliases were moved past the record ({'; '.join(changed)})"
    found = held.get(CHAMPION)
    if found is not None and found != state.champion:
        verdict = last_verdict(entries, found)
        if verdict is None:
            line += f"; no verdict on version {found} exists: `python -m pipelines.promote {found} --check` gives one"
        else:
            line += f"; the latest verdict on version {found} is: {verdict.text_of('outcome')} (entry {verdict.number})"
    done = "put back" if drift.details["policy"] == PUT_BACK else "accepted as it is"
    return f"{line}; {done} (promote.drift; entry {drift.number})"


ALIASES = (CHAMPION, PREVIOUS)
