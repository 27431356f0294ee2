"""The way back: @previous, or any version that has been @champion, serves again, without the gate."""

import sys
from collections.abc import Sequence

from inpformer.errors import UserError
from pipelines.platform.registry import find_version
from pipelines.promote.begun import begin
from pipelines.promote.fitness import check_thresholds
from pipelines.promote.protocol import move
from pipelines.promote.screen import show
from pipelines.promote.settings import PromoteSettings
from pipelines.record.entry import Entry
from pipelines.record.steps import ROLLBACK, State, champions, is_intent


def rollback(model_name: str, wanted: str | None, settings: PromoteSettings) -> State:
    """Makes `wanted`, by default @previous, the champion again. Returns the state after it.

    The same call again changes nothing. Raises UserError if there is no way back, or the version has never been
    @champion by the record.
    """
    begun = begin(model_name, settings)
    record, state = begun.record, begun.state
    entries = record.entries()
    last = next((entry for entry in reversed(entries) if is_intent(entry)), None)
    if (
        wanted is None
        and last
        and last.kind == ROLLBACK
        and state.step
        and state.step.details.get("closes") == last.number
    ):
        print(
            f"{model_name} was rolled back to version {state.champion} by {last.actor}, {last.when}: nothing changes. "
            f"To go to version {state.previous} again: `python -m pipelines.promote rollback {state.previous}`",
            file=sys.stderr,
        )
        return state
    if wanted is None and state.previous is None:
        raise UserError(f"{model_name} has no @previous: give a version that has been @champion ({_listed(entries)}).")
    version = find_version(model_name, wanted or state.previous or "")
    if begun.serves(version):
        return state
    if version.number not in champions(entries):
        raise UserError(
            f"{model_name} version {version.number} has never been @champion (these have: {_listed(entries)}): "
            f"`python -m pipelines.promote {version.number}` asks the gate."
        )
    show(model_name, f"roll back to version {version.number}, past the gate", state, begun.champion, version, entries)
    check_thresholds(model_name, version)
    return move(record, state, ROLLBACK, version.number, {})


def _listed(entries: Sequence[Entry]) -> str:
    return ", ".join(champions(entries)) or "none"
