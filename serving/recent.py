"""What a replica decided last, for people who look: no picture, and nothing that outlives it."""

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime

from serving.answers import Decided, Verdict

KEPT = 200


class Recent:
    """The last KEPT decisions of a replica."""

    def __init__(self) -> None:
        self._kept: deque[Decided] = deque(maxlen=KEPT)

    def judged(self, verdict: Verdict) -> None:
        """One picture, now."""
        own = {name: getattr(verdict, name) for name in Decided.model_fields if name not in ("at", "doubt")}
        doubt = None if verdict.doubt is None else verdict.doubt.reason
        self._kept.append(Decided(at=datetime.now(UTC), doubt=doubt, **own))

    def all(self) -> list[Decided]:
        """The latest last."""
        return list(self._kept)


def latest(of_replicas: Iterable[list[Decided]], wanted: dict[str, str | None]) -> list[Decided]:
    """Of all replicas, the latest first: up to KEPT of which each field is as `wanted`, where that is not None."""
    asked = {name: value for name, value in wanted.items() if value is not None}
    fitting = [
        one
        for decided in of_replicas
        for one in decided
        if all(getattr(one, name) == value for name, value in asked.items())
    ]
    return sorted(fitting, key=lambda one: one.at, reverse=True)[:KEPT]
