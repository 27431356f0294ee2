"""What a command says before anything moves: from which version to which, what they are made of, and who does it."""

import sys
from collections.abc import Sequence

from pipelines.platform.registry import Version
from pipelines.record.actor import actor
from pipelines.record.entry import Entry
from pipelines.record.steps import State, is_step, last_verdict, said


def show(model_name: str, what: str, state: State, old: Version | None, new: Version, entries: Sequence[Entry]) -> None:
    """Prints it on stderr, as stdout is for results."""
    since = next((e for e in reversed(entries) if is_step(e) and e.text_of("champion") == state.champion), None)
    lines = [f"{model_name}: {what}", f"  who   {actor()}"]
    lines += _version("from", old) if old else ["  from  no champion"]
    if old and since:
        lines.append(f"          @champion by the record: {said(since)}")
    lines += _version("to", new)
    if verdict := last_verdict(entries, new.number):
        lines.append(f"          latest verdict: {verdict.text_of('sentence') or verdict.text_of('outcome')}")
    if old and old.number != new.number:
        lines.append(f"  back  version {old.number} becomes @previous: `python -m pipelines.promote rollback`")
    print("\n".join(_shown(line) for line in lines), file=sys.stderr, flush=True)


def _version(word: str, version: Version) -> list[str]:
    known = [f"{name} {version.tags[name]}" for name in ("method", "seed") if version.tags.get(name)]
    lines = version.description.splitlines() or ["made of what, it does not say"]
    return [f"  {word:<5} version {version.number}", *(f"          {line}" for line in [*lines, *known])]


def _shown(line: str) -> str:
    """Without what a terminal would obey: descriptions come from MLflow, where others write."""
    return "".join(c if c.isprintable() else "?" for c in line)
