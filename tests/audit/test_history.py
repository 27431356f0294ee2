"""Which version was champion when: as far as the record knows, and no further."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipelines.audit.__main__ import moment
from pipelines.audit.history import champions_at
from pipelines.record.entry import Entry, canonical, make, parse

START = datetime(2026, 11, 1, tzinfo=UTC)
# Minute, kind, version, details.
HISTORY: list[tuple[int, str, str | None, dict[str, Any]]] = [
    (0, "taken over", "1", {"champion": "1"}),
    (10, "verdict", "2", {}),
    (11, "promotion", "2", {"from": "1", "to": "2"}),
    (13, "promoted", "2", {"champion": "2", "previous": "1", "closes": 3}),
    (14, "promoted", "2", {"champion": "2", "previous": "1", "closes": 3}),  # by two: the first counts
    (30, "drift", "5", {"policy": "accept", "from": "2", "to": "5", "champion": "5"}),
    (40, "drift", "6", {"policy": "revert", "from": "5", "to": "6"}),
    (42, "reverted", "5", {"champion": "5", "closes": 7}),
    (50, "promotion", "7", {"from": "5", "to": "7"}),
]


def entries() -> list[Entry]:
    found = []
    for number, (minute, kind, version, details) in enumerate(HISTORY, 1):
        values = json.loads(make("m", number, "", kind, version, details).text)
        values["time"] = (START + timedelta(minutes=minute)).isoformat()
        found.append(parse(canonical(values)))
    return found


@pytest.mark.parametrize(
    ("minute", "versions"),
    [
        (-60, {"1"}),  # taken over: since when, nobody wrote down
        (5, {"1"}),
        (12, {"1", "2"}),  # while the aliases moved
        (13, {"2", "5"}),  # moved by hand at some time since
        (29, {"2", "5"}),
        (31, {"5", "6"}),
        (41, {"5", "6"}),
        (49, {"5"}),
        (55, {"5"}),  # what is not finished is not told as done
    ],
)
def test_who_was_champion(minute: int, versions: set[str]) -> None:
    found = champions_at(entries(), START + timedelta(minutes=minute))
    assert {reign.version for reign in found} == versions


def test_before_any_champion_there_was_none() -> None:
    assert champions_at(entries()[2:4], START) == []
    assert champions_at([], START) == []


def test_a_time_has_a_zone_or_is_a_day() -> None:
    assert moment("2026-11-01") == START
    assert moment("2026-11-01T01:00:00+01:00") == START
    for wrong in ("2026-11-01T01:00:00", "yesterday", "", "2026-13-01", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(Exception, match="is no ISO time"):
            moment(wrong)
