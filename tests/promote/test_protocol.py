"""What is left when something is killed, late, or moved by hand: in a real MLflow on SQLite."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipelines.platform.registry import aliases, set_alias, set_note
from pipelines.promote.protocol import ready
from pipelines.promote.rollback import rollback
from pipelines.promote.settings import PromoteSettings
from pipelines.record.actor import host
from pipelines.record.older import UNDERWAY
from pipelines.record.record import Record
from tests.platform.test_registry import NAME
from tests.platform.test_registry import registry as registry
from tests.platform.test_registry import three_versions as three_versions
from tests.promote.weighing import kinds, promoted

ROOT = Path(__file__).resolve().parents[2]
# Ends a process before each write of a promotion, on a copy of the database; says what that and the next call leave.
KILLED = """
import json, os, shutil, sys
import mlflow
from pipelines.platform.registry import aliases
from pipelines.promote.protocol import ready
from pipelines.record.record import Record
from tests.promote.weighing import promoted
source, name, wanted = sys.argv[1:]
def dying(write):
    def call(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return write(*args, **kwargs)
    return call
def forked(folder, work):
    if (child := os.fork()) == 0:
        os.chdir(folder)
        work()
        sys.stdout.flush()
        os._exit(0)
    return os.waitpid(child, 0)[1]
def tell():
    killed = aliases(name)
    state = ready(Record.open(name), "accept")
    kinds = [entry.kind for entry in Record.open(name).entries()]
    print("left", json.dumps([killed, aliases(name), state.aliases, kinds]))
mlflow.MlflowClient(f"sqlite:///{source}/warm.db").get_registered_model(name)
writes = ("set_registered_model_alias", "delete_registered_model_alias", "set_registered_model_tag", "log_batch",
          "create_run", "create_registered_model", "create_experiment", "update_run", "delete_run")
for write in writes:
    setattr(mlflow.MlflowClient, write, dying(getattr(mlflow.MlflowClient, write)))
for point in range(40):
    folder = f"{source}-{point}"
    shutil.copytree(source, folder)
    left = [point]
    ended = forked(folder, lambda: promoted(wanted))
    left = [99]
    assert forked(folder, tell) == 0
    shutil.rmtree(folder)
    if ended == 0:
        break
else:
    raise AssertionError("more writes than points")
"""


@pytest.mark.parametrize(
    ("wanted", "before", "done"),
    [
        ("3", {"champion": "2", "previous": "1"}, {"champion": "3", "previous": "2"}),
        ("previous", {"champion": "2", "previous": "1"}, {"champion": "1", "previous": "2"}),
        ("1", {}, {"champion": "1"}),
    ],
)
def test_a_promotion_killed_at_any_write_leaves_the_way_back(
    three_versions: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    before: dict[str, str],
    done: dict[str, str],
) -> None:
    for number in [before[alias] for alias in ("previous", "champion") if alias in before]:
        promoted(number)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    source = tmp_path / "source"
    source.mkdir()
    for name in ("mlflow.db", "warm.db"):
        shutil.copy(tmp_path / "mlflow.db", source / name)
    output = subprocess.run(
        [sys.executable, "-c", KILLED, str(source), NAME, wanted], check=True, capture_output=True, text=True
    ).stdout
    left = [json.loads(line.removeprefix("left ")) for line in output.splitlines() if line.startswith("left ")]
    assert len(left) >= 6
    for killed, settled, by_record, recorded in left:
        moved = killed.get("champion") == done["champion"]
        assert settled == by_record == (done if moved else before)
        if moved:  # from its first moment the new champion has its way back
            assert killed.get("previous") == done.get("previous")
        assert "drift" not in recorded
    assert left[0][1] == before
    assert left[-1][:2] == [done, done]


@pytest.mark.parametrize(
    ("died_after", "stands", "kind"),
    [
        ({}, {"champion": "1"}, "abandoned"),
        ({"previous": "1"}, {"champion": "1"}, "abandoned"),
        ({"previous": "1", "champion": "2"}, {"champion": "2", "previous": "1"}, "promoted"),
    ],
)
def test_a_move_that_another_machine_began_is_waited_for_and_then_finished_or_undone(
    three_versions: MlflowClient,
    capsys: pytest.CaptureFixture[str],
    died_after: dict[str, str],
    stands: dict[str, str],
    kind: str,
) -> None:
    promoted("1")
    record = Record.open(NAME)
    intent = record.append("promotion", "2", {"from": "1", "to": "2", "host": "elsewhere", "pid": 1})
    for alias, number in died_after.items():
        set_alias(NAME, alias, number)
    age = (datetime.now(UTC) - intent.time).total_seconds()
    assert ready(record, "accept", lease=age + 3).aliases == aliases(NAME) == stands
    assert "waiting" in capsys.readouterr().err
    assert kinds()[-1] == kind
    assert ready(record, "revert", lease=0).aliases == stands


def test_a_process_that_lives_is_waited_for_and_one_that_is_gone_is_not(
    three_versions: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    record = Record.open(NAME)
    for number, pid, waits in (("1", gone.pid, False), ("2", os.getppid(), True)):
        intent = record.append("promotion", number, {"to": number, "host": host(), "pid": pid})
        set_alias(NAME, "champion", number)
        age = (datetime.now(UTC) - intent.time).total_seconds()
        assert ready(record, "accept", lease=age + 3).champion == number
        assert ("waiting" in capsys.readouterr().err) == waits


def test_a_move_to_a_version_that_was_deleted_is_given_up(three_versions: MlflowClient) -> None:
    promoted("1")
    record = Record.open(NAME)
    record.append("promotion", "2", {"from": "1", "to": "2", "host": "elsewhere", "pid": 1})
    three_versions.delete_model_version(NAME, "2")
    assert ready(record, "accept", lease=0).aliases == aliases(NAME) == {"champion": "1"}
    assert kinds()[-1] == "abandoned"


def test_a_move_to_what_is_no_version_is_given_up(three_versions: MlflowClient) -> None:
    promoted("1")
    record = Record.open(NAME)
    record.append("promotion", "2", {"from": "1", "to": "no number", "host": "elsewhere", "pid": 1})
    set_alias(NAME, "champion", "2")
    assert ready(record, "accept", lease=0).champion == "2"  # moved by hand
    assert kinds()[-2:] == ["abandoned", "drift"]


def test_what_was_moved_by_hand_is_recorded_and_accepted(
    three_versions: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    promoted("1")
    set_alias(NAME, "champion", "2")
    state = ready(Record.open(NAME), "accept")
    assert (state.champion, aliases(NAME)) == ("2", {"champion": "2"})
    assert "no verdict on version 2 exists" in capsys.readouterr().err
    drift = Record.open(NAME).entries()[-1]
    assert (drift.kind, drift.details["from"], drift.details["to"]) == ("drift", "1", "2")
    assert ready(Record.open(NAME), "revert").champion == "2"  # what was accepted is no drift any more
    assert rollback(NAME, "1", PromoteSettings()).champion == "1"


@pytest.mark.parametrize("cut_off", [False, True])
def test_what_was_moved_by_hand_is_put_back(three_versions: MlflowClient, cut_off: bool) -> None:
    promoted("1")
    promoted("2")
    set_alias(NAME, "champion", "3")
    set_alias(NAME, "previous", None)
    record = Record.open(NAME)
    if cut_off:
        record.append(
            "drift", "3", {"policy": "revert", "from": "2", "to": "3", "previous": "1", "host": "elsewhere", "pid": 1}
        )
        ready(record, "accept", lease=0)  # as it was announced, whatever the policy is now
    else:
        ready(record, "revert")
    assert aliases(NAME) == {"champion": "2", "previous": "1"}
    assert kinds()[-2:] == ["drift", "reverted"]
    assert ready(record, "revert").champion == "2"
    assert kinds()[-2:] == ["drift", "reverted"]


def test_an_alias_of_a_deleted_version_cannot_be_put_back(three_versions: MlflowClient) -> None:
    promoted("1")
    promoted("2")
    three_versions.delete_model_version(NAME, "2")
    assert ready(Record.open(NAME), "revert").aliases == {"previous": "1"}
    assert kinds()[-1] == "drift"
    assert promoted("3") == ("3", "1")


def test_an_alias_that_was_set_before_any_promotion_is_seen(three_versions: MlflowClient) -> None:
    Record.open(NAME).append("registration", "1", {})
    set_alias(NAME, "champion", "1")
    assert ready(Record.open(NAME), "revert").aliases == aliases(NAME) == {}


def test_a_registry_from_before_the_record_is_taken_over(three_versions: MlflowClient) -> None:
    set_alias(NAME, "champion", "2")
    set_alias(NAME, "previous", "1")
    assert promoted("3") == ("3", "2")
    assert kinds() == ["taken over", "verdict", "promotion", "promoted"]
    assert rollback(NAME, "1", PromoteSettings()).champion == "1"  # that was @previous


@pytest.mark.parametrize(("champion", "settled"), [("2", ("2", "1")), ("1", ("1", None))])
def test_the_note_of_an_older_version_is_settled_once(
    three_versions: MlflowClient, champion: str, settled: tuple[str, str | None]
) -> None:
    set_alias(NAME, "champion", champion)
    set_note(NAME, UNDERWAY, json.dumps({"from": "1", "to": "2", "previous": None}))
    state = ready(Record.open(NAME), "accept")
    assert (state.champion, state.previous) == settled
    assert kinds() == ["taken over"]
