"""The record in a real MLflow: who is first has the number, in SQLite and on a server, whatever is killed or lost."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from inpformer.errors import UserError
from pipelines.platform.ledger import Ledger
from pipelines.platform.registry import aliases
from pipelines.platform.tracking import tracking_uri
from pipelines.record.actor import actor, same_person
from pipelines.record.entry import LONGEST
from pipelines.record.record import Record
from tests.mlflow_server import MlflowServer
from tests.platform.test_registry import NAME
from tests.platform.test_registry import registry as registry
from tests.platform.test_registry import three_versions as three_versions

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty, folder)
    server = MlflowServer(folder)
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.kill()


@pytest.fixture(params=["sqlite", "server"])
def either(request: pytest.FixtureRequest, empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a model with three versions, in a database here or on a server."""
    name = NAME
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        shutil.copy(empty, tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    else:
        server: MlflowServer = request.getfixturevalue("server")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        name = f"{NAME}-{request.node.originalname}"
    client = MlflowClient(tracking_uri())
    client.create_registered_model(name)
    run = client.create_run(client.create_experiment(name)).info
    for _ in range(3):
        client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id)
    return name


def test_a_number_is_written_once_and_never_changed(either: str) -> None:
    ledger = Ledger.open(either)
    assert ledger.write(1, "first", "its signature")
    assert ledger.write(1, "first", "its signature")  # asked again, as the answer was lost
    assert not ledger.write(1, "second", "another signature")
    assert ledger.write(2, "λ" * LONGEST)
    held = ledger.read()
    assert held.texts == {1: "first", 2: "λ" * LONGEST}
    assert held.signatures == {1: "its signature"}
    assert Ledger.open(either).run_id == ledger.run_id


RACING = """
import sys
from pipelines.platform import command
from pipelines.promote.settings import PromoteSettings
from pipelines.promote.promotion import promote
from tests.promote.weighing import giving
name, number = sys.argv[1:]
def weigh(*given):
    print("weighs", flush=True)
    sys.stdin.readline()  # both are let go at once
    return giving()(*given)
def main():
    promote(name, number, PromoteSettings(), weigh)
command.run(main)
"""


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(either: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Record.open(either)
    racing = {
        number: subprocess.Popen(
            [sys.executable, "-c", RACING, either, number],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in ("1", "2")
    }
    for process in racing.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "weighs\n"
    for process in racing.values():
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {number: process.communicate(timeout=120)[1] for number, process in racing.items()}
    (winner,) = [number for number, process in racing.items() if process.returncode == 0]
    (loser,) = [number for number, process in racing.items() if process.returncode == 1]
    assert aliases(either) == {"champion": winner}
    assert f"version {winner}" in said[loser].splitlines()[-1]
    assert "was faster" in said[loser].splitlines()[-1]
    entries = Record.open(either).entries()
    assert [entry.kind for entry in entries if entry.kind != "verdict"] == ["promotion", "promoted"]
    assert [entry.number for entry in entries] == [1, 2, 3, 4]


OPENING = """
import sys
from pipelines.record.entry import LONGEST
from pipelines.record.record import Record
record = Record.open(sys.argv[1])
for _ in range(4):
    record.append("refusal", "1", {})
print(record.ledger.run_id)
"""


def test_a_record_that_three_begin_at_once_is_one(either: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    opening = [
        subprocess.Popen([sys.executable, "-c", OPENING, either], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    runs = {process.communicate(timeout=120)[0] for process in opening}
    assert [process.returncode for process in opening] == [0, 0, 0]
    assert len(runs) == 1
    assert [entry.number for entry in Record.open(either).entries()] == list(range(1, 13))


def test_what_others_write_into_the_run_does_not_stop_the_record(
    three_versions: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Record.open(NAME)
    record.append("refusal", "1", {})
    three_versions.log_param(record.ledger.run_id, "000002", "nonsense")
    three_versions.log_param(record.ledger.run_id, "learning_rate", "1")
    assert record.append("refusal", "2", {}).number == 3
    assert [entry.number for entry in record.entries()] == [1, 3]
    assert capsys.readouterr().err.count("entry 2: cannot be read") == 1
    three_versions.log_param(record.ledger.run_id, "999999", "nonsense")
    with pytest.raises(UserError, match="999999"):
        record.append("refusal", "3", {})


def test_a_record_that_was_deleted_is_said_to_be(three_versions: MlflowClient) -> None:
    record = Record.open(NAME)
    record.append("refusal", "1", {})
    three_versions.delete_run(record.ledger.run_id)
    with pytest.raises(UserError, match=f"mlflow runs restore --run-id {record.ledger.run_id}"):
        Record.open(NAME)
    three_versions.restore_run(record.ledger.run_id)
    assert len(Record.open(NAME).entries()) == 1
    with sqlite3.connect("mlflow.db") as database:
        database.execute("DELETE FROM params")
        database.execute("DELETE FROM runs WHERE run_uuid = ?", (record.ledger.run_id,))
    with pytest.raises(UserError, match="is gone"):
        Record.open(NAME)


def test_another_model_of_that_name_is_not_taken_for_a_record(three_versions: MlflowClient) -> None:
    three_versions.create_registered_model(f"{NAME}-record")
    with pytest.raises(UserError, match=f"{NAME}-record that is no record of ours"):
        Record.open(NAME)


def test_who_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert actor().startswith("ann@")  # a database asks nobody
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert actor() == "bob"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "eve\n\x1b" + "x" * 500)
    assert actor().startswith("eve??x")
    assert len(actor()) == 200
    assert same_person("ann@one", "Ann@two")
    assert not same_person("ann@one", "anna@one")
