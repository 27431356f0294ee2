"""A second person: a version that passed the gate is proposed, and somebody else approves."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from inpformer.errors import UserError
from pipelines.platform.registry import find_version
from pipelines.promote.begun import begin
from pipelines.promote.protocol import move, unmoved
from pipelines.promote.screen import show
from pipelines.promote.settings import PromoteSettings
from pipelines.record.actor import actor, same_person
from pipelines.record.entry import Entry
from pipelines.record.record import Record
from pipelines.record.steps import (
    APPROVAL,
    PROMOTION,
    PROPOSAL,
    RECALIBRATION,
    REFUSAL,
    REGISTRATION,
    State,
    last_verdict,
)


def open_proposal(entries: Sequence[Entry], state: State, number: str | None = None) -> Entry | None:
    """The latest proposal, of one version or of any, that may still be approved: the champion has not changed since,
    and no later verdict forbids it.
    """
    step = state.step.number if state.step else 0
    waiting = [e for e in entries if e.kind == PROPOSAL and e.number > step and number in (None, e.version)]
    if not waiting or waiting[-1].version is None:
        return None
    verdict = last_verdict(entries, waiting[-1].version)
    return waiting[-1] if verdict is not None and verdict.details.get("allows") is True else None


def approved(entries: Sequence[Entry], proposal: Entry) -> Entry | None:
    """The approval of a proposal, if somebody gave it."""
    return next((e for e in entries if e.kind == APPROVAL and e.details.get("proposal") == proposal.number), None)


def propose(record: Record, state: State, number: str, evidence: Mapping[str, Any]) -> Entry:
    """Records that a version is to follow the champion. Raises OvertakenError if that is another one by now."""
    return record.append(
        PROPOSAL, number, {"from": state.champion, **evidence}, lambda entries: unmoved(entries, state)
    )


def say_open(model_name: str, proposal: Entry) -> None:
    """Says who has to do what."""
    print(
        f"{model_name} version {proposal.version} is proposed by {proposal.actor} (entry {proposal.number}); "
        f"somebody else, who did not register it either, approves it with: python -m pipelines.promote --approve",
        file=sys.stderr,
    )


def approve(model_name: str, wanted: str | None, settings: PromoteSettings) -> State:
    """Approves the open proposal, of `wanted` if that is given, and promotes its version.

    Raises UserError if there is none, and for who proposed or registered the version, which is recorded.
    """
    if not settings.approval:
        raise UserError(
            "promote.approval is false in params.yaml, so nothing waits for an approval: `python -m pipelines.promote` "
            "promotes what passes the gate."
        )
    begun = begin(model_name, settings)
    record, state = begun.record, begun.state
    entries = record.entries()
    asked = find_version(model_name, wanted) if wanted else None
    if asked is not None and begun.serves(asked):
        return state
    number = asked.number if asked else None
    proposal = open_proposal(entries, state, number)
    if proposal is None or proposal.version is None:
        whose = f" of version {number}" if number else ""
        raise UserError(
            f"{model_name} has no open proposal{whose}: one is void once the champion changes, or a later verdict "
            f"forbids it. `python -m pipelines.promote` proposes again."
        )
    version = find_version(model_name, proposal.version)
    what = f"approve version {version.number}, proposed by {proposal.actor}"
    show(model_name, what, state, begun.champion, version, entries)
    approval = approved(entries, proposal)
    if approval is None:
        _check_second(record, entries, proposal)
        approval = record.append(
            APPROVAL, proposal.version, {"proposal": proposal.number}, lambda now: unmoved(now, state)
        )
    details = {
        "proposal": proposal.number,
        "approval": approval.number,
        "outcome": proposal.text_of("outcome"),
        "evidence": proposal.text_of("evidence"),
    }
    return move(record, state, PROMOTION, version.number, details)


def _check_second(record: Record, entries: Sequence[Entry], proposal: Entry) -> None:
    me = actor()
    made = [e for e in entries if e.kind in (REGISTRATION, RECALIBRATION) and e.version == proposal.version]
    for entry in (proposal, *made):
        if same_person(me, entry.actor):
            did = "proposed" if entry is proposal else "registered"
            why = f"{me} cannot approve version {proposal.version}: {entry.actor} {did} it (entry {entry.number})"
            record.append(REFUSAL, proposal.version, {"why": why, "proposal": proposal.number})
            raise UserError(f"{why}. Somebody else has to run `python -m pipelines.promote --approve`.")
    if not made:
        print(f"who registered version {proposal.version} is not in the record", file=sys.stderr)
