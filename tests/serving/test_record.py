"""The service reads the record that the pipeline writes, and sees what was moved past it."""

from datetime import UTC, datetime, timedelta

import pytest
from mlflow import MlflowClient

from pipelines.platform.registry import set_alias
from pipelines.platform.tracking import tracking_uri
from pipelines.promote.protocol import ready
from pipelines.promote.rollback import rollback
from pipelines.promote.settings import PromoteSettings
from pipelines.record.actor import actor
from pipelines.record.record import Record
from serving.record import LastStep, last_step
from serving.registry import Registry
from tests.platform.test_registry import NAME
from tests.platform.test_registry import registry as registry
from tests.platform.test_registry import three_versions as three_versions
from tests.promote.weighing import promoted


def seen(version: int) -> str | None:
    step = Registry(tracking_uri()).last_step(NAME)
    return None if step is None else step.drift(version)


def test_an_alias_that_agrees_with_the_record_is_no_drift(three_versions: MlflowClient) -> None:
    assert seen(1) is None  # no record
    promoted("1")
    promoted("2")
    assert seen(2) is None
    step = Registry(tracking_uri()).last_step(NAME)
    assert step is not None
    assert (step.by, datetime.now(UTC) - datetime.fromisoformat(step.at) < timedelta(hours=1)) == (actor(), True)
    rollback(NAME, None, PromoteSettings())
    assert seen(1) is None


def test_an_alias_that_was_moved_by_hand_is_seen_until_that_is_recorded(three_versions: MlflowClient) -> None:
    promoted("1")
    set_alias(NAME, "champion", "2")
    assert "version 2 is @champion, and by the record (entry 3) it is 1" in (seen(2) or "")
    ready(Record.open(NAME), "accept")
    assert seen(2) is None
    set_alias(NAME, "champion", "3")
    ready(Record.open(NAME), "revert")
    assert seen(2) is None
    assert seen(3) is not None


def test_while_aliases_move_nothing_is_said(three_versions: MlflowClient) -> None:
    promoted("1")
    record = Record.open(NAME)
    record.append("promotion", "2", {"from": "1", "to": "2"})
    set_alias(NAME, "champion", "2")
    assert seen(2) is None


@pytest.mark.parametrize("text", ["nonsense", "[]", "[" * 5000, '{"kind": 5}'])
def test_what_cannot_be_read_is_passed_over(text: str) -> None:
    assert last_step({"000001": '{"kind": "promoted", "champion": "1"}', "000002": text}) == LastStep(1, "1")
    assert last_step({"000001": text, "learning_rate": "1"}) is None
