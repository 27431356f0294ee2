"""Verdicts for tests of the protocol: what the gate says is a parameter of a promotion."""

from pathlib import Path

from pipelines.platform.registry import Version
from pipelines.promote.promotion import Weigh, promote
from pipelines.promote.settings import PromoteSettings
from pipelines.promote.verdict import Verdict
from pipelines.record.record import Record
from tests.platform.test_registry import NAME


def giving(allows: bool = True) -> Weigh:
    """A gate that says the same of every version."""

    def weigh(
        model_name: str, challenger: Version, champion: Version | None, settings: PromoteSettings, folder: Path
    ) -> Verdict:
        assert list(folder.iterdir()) == []
        return Verdict(
            outcome="better" if allows else "worse",
            allows=allows,
            sentence="It finds more." if allows else "It misses more.",
            challenger=challenger.number,
            champion=champion.number if champion else None,
            details={"seen": 1},
            digest="5" * 64,
            page="the page",
        )

    return weigh


def promoted(
    wanted: str, accept: bool = False, settings: PromoteSettings | None = None
) -> tuple[str | None, str | None]:
    """A promotion that the gate allows; champion and previous after it."""
    state = promote(NAME, wanted, settings or PromoteSettings(), giving(), accept)
    return state.champion, state.previous


def kinds() -> list[str]:
    """What is in the record, in its order."""
    return [entry.kind for entry in Record.open(NAME).entries()]
