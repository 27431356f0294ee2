"""What was altered is found, in entries and in the files of versions, with a real MLflow on SQLite."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from inpformer.digests import folder_digest
from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from pipelines.audit import __main__ as command
from pipelines.audit.commands import ledger_of
from pipelines.audit.export import read_export, write_export
from pipelines.audit.verify import unrecorded, verify_record
from pipelines.platform.registry import Evidence, register
from pipelines.platform.runs import Run
from pipelines.record.chain import Fault
from pipelines.record.record import Record
from pipelines.record.steps import REGISTRATION
from pipelines.record.versions import note_version
from tests.platform.test_registry import NAME
from tests.platform.test_registry import registry as registry
from tests.promote.weighing import promoted

MADE_OF = {"git.commit": "abc", "data.digest": "def", "setting": "multi-class"}


def faults_now() -> list[Fault]:
    """What is wrong with the record and the files of versions."""
    ledger = ledger_of(NAME)
    return verify_record(ledger, ledger.read())


@pytest.fixture
def recorded(registry: MlflowClient, detector: Detector, tmp_path: Path) -> MlflowClient:
    """A version with evidence, registered, promoted and recorded."""
    detector.save(tmp_path / "detector")
    (tmp_path / "evidence/pictures").mkdir(parents=True)
    (tmp_path / "evidence/metrics.md").write_text("good")
    (tmp_path / "evidence/pictures/curve.png").write_bytes(b"a picture")
    (tmp_path / "params.yaml").write_text("{}")
    run = Run.open("key", "a run", {}, {})
    register(run, tmp_path / "detector", NAME, Evidence("", MADE_OF, tmp_path / "evidence"))
    for _ in range(2):  # once a version
        note_version(NAME, "1", REGISTRATION, folder_digest(tmp_path / "detector"))
    promoted("1")
    return registry


def run_audit(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["audit", *map(str, arguments)])
    command.main()


def files_of(client: MlflowClient) -> Path:
    """Where the version's files lie."""
    source = client.get_model_version(NAME, "1").source
    return Path(urlsplit(client.get_logged_model(source.removeprefix("models:/")).artifact_location).path)


def test_a_version_is_registered_in_the_record_once_with_the_digests_of_its_files(
    recorded: MlflowClient, tmp_path: Path
) -> None:
    entries = Record.open(NAME).entries()
    assert [entry.kind for entry in entries] == ["registration", "verdict", "promotion", "promoted"]
    details = entries[0].details
    assert details["detector"] == folder_digest(tmp_path / "detector")
    assert details["evidence"] == folder_digest(tmp_path / "evidence")
    assert details["made_of"] == MADE_OF


def test_what_is_as_it_was_written_passes(
    recorded: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_audit(monkeypatch, "verify")
    assert "4 entries and the files of 1 versions" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "evidence/metrics.md").write_text("better"),
        lambda folder: (folder / "evidence/pictures/curve.png").unlink(),
        lambda folder: (folder / "evidence/more.txt").write_text("added"),
        lambda folder: (folder / "artifacts/detector/calibration.json").write_text("{}"),
        lambda folder: (folder / "artifacts/detector/model.safetensors").unlink(),
    ],
)
def test_a_file_of_a_version_that_changed_is_found(
    recorded: MlflowClient, change: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(files_of(recorded))
    (fault,) = faults_now()
    assert fault.version == "1"
    with pytest.raises(SystemExit) as ended:
        run_audit(monkeypatch, "verify")
    assert ended.value.code == 1


def sql(statement: str, *values: object) -> None:
    with sqlite3.connect("mlflow.db") as database:
        assert database.execute(statement, values).rowcount > 0
    database.close()


def swap() -> None:
    sql("UPDATE params SET key = 'x' WHERE key = '000002'")
    sql("UPDATE params SET key = '000002' WHERE key = '000003'")
    sql("UPDATE params SET key = '000003' WHERE key = 'x'")


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (lambda: sql("UPDATE params SET value = replace(value, 'better', 'worse') WHERE key = '000002'"), 2),
        (lambda: sql("UPDATE params SET value = replace(value, '@', '@x') WHERE key = '000004'"), 4),
        (lambda: sql("DELETE FROM params WHERE key = '000003'"), 3),
        (lambda: sql("DELETE FROM params WHERE key = '000004'"), 4),  # the last one
        (swap, 2),
    ],
)
def test_an_entry_that_was_altered_in_the_database_is_found(
    recorded: MlflowClient, change: Callable[[], None], number: int
) -> None:
    change()
    assert number in {fault.number for fault in faults_now()}


def test_a_registry_that_was_pointed_at_another_record_is_found(recorded: MlflowClient) -> None:
    ours = ledger_of(NAME)
    other = recorded.create_run(recorded.get_experiment_by_name("inpformer-record").experiment_id).info.run_id
    texts = ours.read().texts
    for number in (1, 2):
        recorded.log_param(other, f"{number:06d}", texts[number])
    recorded.set_registered_model_tag(f"{NAME}-record", "inpformer.record.run", other)
    recorded.delete_registered_model_tag(f"{NAME}-record", "inpformer.record.head")
    recorded.delete_run(ours.run_id)
    (fault,) = faults_now()
    assert ours.run_id in fault.what


def test_a_version_that_was_deleted_or_made_past_the_record_is_said(
    recorded: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded.create_model_version(NAME, source="file:///nowhere")
    assert unrecorded(NAME, Record.open(NAME).entries()) == ["2"]
    assert faults_now() == []
    recorded.delete_model_version(NAME, "1")
    (fault,) = faults_now()
    assert (fault.version, "deleted" in fault.what) == ("1", True)


def test_an_export_shows_what_mlflow_has_lost(
    recorded: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_audit(monkeypatch, "export", "record.jsonl")
    lines = [json.loads(line) for line in Path("record.jsonl").read_text().splitlines()]
    assert [line["entry"]["kind"] for line in lines] == ["registration", "verdict", "promotion", "promoted"]
    Record.open(NAME).append("refusal", "1", {})  # what is newer than the export is no fault
    run_audit(monkeypatch, "verify", "--file", "record.jsonl")
    # A record that was written anew, in itself without fault.
    sql("DELETE FROM params WHERE key > '000001'")
    Record.open(NAME).append("refusal", "1", {})
    with pytest.raises(SystemExit):
        run_audit(monkeypatch, "verify", "--file", "record.jsonl")
    faults = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in faults[-3:]] == ["entry 2", "entry 3", "entry 4"]


def test_an_export_that_was_altered_is_found(recorded: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    write_export(ledger_of(NAME).read(), Path("record.jsonl"))
    assert read_export(Path("record.jsonl")).texts == ledger_of(NAME).read().texts
    whole = Path("record.jsonl").read_text()
    Path("record.jsonl").write_text(whole.replace('"better"', '"worse"'))
    with pytest.raises(SystemExit):
        run_audit(monkeypatch, "verify", "--file", "record.jsonl")
    for broken in ("{}", "nonsense", whole + whole, '{"number": 1, "entry": 5}', "[" * 10_000, "\udcff"):
        Path("record.jsonl").write_bytes(broken.encode("utf-8", "surrogateescape"))
        with pytest.raises(UserError, match=r"record\.jsonl"):
            read_export(Path("record.jsonl"))


def test_nonsense_in_the_record_is_exported_too(recorded: MlflowClient) -> None:
    recorded.log_param(Record.open(NAME).ledger.run_id, "000005", "nonsense")
    recorded.log_param(Record.open(NAME).ledger.run_id, "000006", '{"a":  1}')
    write_export(ledger_of(NAME).read(), Path("record.jsonl"))
    assert read_export(Path("record.jsonl")).texts == ledger_of(NAME).read().texts


def test_without_a_record_nothing_is_verified_and_nothing_is_made(registry: MlflowClient) -> None:
    registry.create_registered_model(NAME)
    with pytest.raises(UserError, match="has no record yet"):
        ledger_of(NAME)
    assert [model.name for model in registry.search_registered_models()] == [NAME]
