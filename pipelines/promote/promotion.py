"""Promotion: the gate weighs a version against the champion; what passes becomes the champion, or is proposed."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inpformer.errors import UserError
from pipelines.platform.registry import Version, find_version
from pipelines.promote.approval import approved, open_proposal, propose, say_open
from pipelines.promote.begun import Begun, begin
from pipelines.promote.fitness import UnfitError, check_promise, check_thresholds
from pipelines.promote.protocol import move
from pipelines.promote.screen import show
from pipelines.promote.settings import PromoteSettings
from pipelines.promote.verdict import Verdict
from pipelines.record.entry import checked_reason
from pipelines.record.steps import FORCED, PROMOTION, REFUSAL, VERDICT, State

Weigh = Callable[[str, Version, Version | None, PromoteSettings, Path], Verdict]


def promote(
    model_name: str, wanted: str, settings: PromoteSettings, weigh: Weigh, accept_broken: bool = False
) -> State:
    """Has `wanted`, a version or an alias, weighed against the champion, and makes it the champion if the verdict
    allows that; where a second person must approve, it is proposed instead. Returns the state after it.

    The champion again changes nothing. Raises UserError for a version that is refused, which is recorded, and
    OvertakenError where somebody else moved the aliases meanwhile.
    """
    begun, version = begin(model_name, settings), find_version(model_name, wanted)
    record, state, number = begun.record, begun.state, version.number
    if begun.serves(version):
        return state
    entries = record.entries()
    show(model_name, f"promote version {number}", state, begun.champion, version, entries)
    if settings.approval and (proposal := open_proposal(entries, state, number)):
        if approval := approved(entries, proposal):
            return move(record, state, PROMOTION, number, {"proposal": proposal.number, "approval": approval.number})
        say_open(model_name, proposal)
        return state
    try:
        verdict = weighed(begun, version, weigh, accept_broken)
    except UnfitError as error:
        refuse(begun, version, str(error))
        raise
    if not verdict.allows:
        refuse(begun, version, verdict.sentence, outcome=verdict.outcome, evidence=verdict.digest)
        raise RefusedError(model_name, verdict)
    evidence = {"outcome": verdict.outcome, "evidence": verdict.digest}
    if settings.approval:
        say_open(model_name, propose(record, state, number, evidence))
        return state
    return move(record, state, PROMOTION, number, evidence)


def weighed(begun: Begun, version: Version, weigh: Weigh, accept_broken: bool) -> Verdict:
    """The verdict, which is recorded whichever way it falls. Raises UnfitError for a version that is not to serve,
    whatever it is weighed against.
    """
    check_thresholds(begun.model_name, version)
    accepted = check_promise(begun.model_name, version, accept_broken)
    with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
        verdict = weigh(begun.model_name, version, begun.champion, begun.settings, Path(folder))
    details = {**_details(verdict), "accepted": _short(accepted) if accepted else None}
    begun.record.append(VERDICT, version.number, details)
    return verdict


class RefusedError(UserError):
    """The gate does not allow a promotion."""

    def __init__(self, model_name: str, verdict: Verdict) -> None:
        super().__init__(
            f"{model_name} version {verdict.challenger} is not promoted: {verdict.sentence} Look at {verdict.page}; to "
            "promote it all the same: --force REASON."
        )


def check(model_name: str, wanted: str, settings: PromoteSettings, weigh: Weigh) -> dict[str, Any]:
    """Whether `wanted` may be promoted, and why, for a machine: `allowed`, `why` and the verdict. No alias moves."""
    begun, version = begin(model_name, settings), find_version(model_name, wanted)
    entries = begun.record.entries()
    show(model_name, f"weigh version {version.number}", begun.state, begun.champion, version, entries)
    verdict: Verdict | None = None
    allowed, why = True, "it is the champion"
    if version.number != begun.state.champion:
        try:
            verdict = weighed(begun, version, weigh, accept_broken=False)
            allowed, why = verdict.allows, verdict.sentence
        except UnfitError as error:
            allowed, why = False, str(error)
    return {
        "model": model_name,
        "challenger": version.number,
        "champion": begun.state.champion,
        "allowed": allowed,
        "why": why,
        "verdict": verdict.as_json() if verdict else None,
    }


def force(model_name: str, wanted: str, settings: PromoteSettings, reason: str) -> State:
    """Makes `wanted` the champion without asking the gate, or a second person; the reason is recorded."""
    reason = checked_reason(reason)
    begun, version = begin(model_name, settings), find_version(model_name, wanted)
    if begun.serves(version):
        return begun.state
    what = f"force version {version.number}, past the gate: {reason}"
    show(model_name, what, begun.state, begun.champion, version, begun.record.entries())
    try:
        check_thresholds(model_name, version)
    except UnfitError as error:
        refuse(begun, version, str(error))
        raise
    return move(begun.record, begun.state, FORCED, version.number, {"reason": reason})


def refuse(begun: Begun, version: Version, why: str, **details: str) -> None:
    """Records that a version was refused."""
    begun.record.append(REFUSAL, version.number, {"from": begun.state.champion, "why": _short(why), **details})


def _details(verdict: Verdict) -> dict[str, Any]:
    return {
        "against": verdict.champion,
        "outcome": verdict.outcome,
        "allows": verdict.allows,
        "sentence": _short(verdict.sentence),
        "evidence": verdict.digest,
        "page": _short(verdict.page),
    }


def _short(text: str) -> str:
    """As much of a sentence as an entry holds; all of it stands in the evidence."""
    return text if len(text) <= 1500 else f"{text[:1500]}…"
