"""Runs, versions and aliases in a real MLflow on SQLite."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from pipelines.platform.registry import Evidence, aliases, download_detector, register, register_alone, set_alias
from pipelines.platform.runs import Run
from pipelines.platform.tracking import tracking_uri
from serving.registry import Registry
from tests.conftest import limits

NAME = "inpformer"


@pytest.fixture
def registry(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """An empty registry in the working directory."""
    shutil.copy(empty, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return MlflowClient(tracking_uri())


@pytest.fixture
def three_versions(registry: MlflowClient) -> MlflowClient:
    registry.create_registered_model(NAME)
    for _ in range(3):
        registry.create_model_version(NAME, source="file:///nowhere")
    return registry


def test_an_unfinished_run_is_taken_up_and_a_finished_one_is_not(registry: MlflowClient) -> None:
    first = Run.open("key", "a run", {"train.epochs": 2}, {"git.commit": "abc"})
    first.end("KILLED")
    again = Run.open("key", "a run", {"train.epochs": 2}, {})
    assert again.run_id == first.run_id
    assert registry.get_run(first.run_id).info.status == "RUNNING"
    again.end("FINISHED")
    assert Run.open("key", "a run", {}, {}).run_id != first.run_id
    assert Run.open("other", "a run", {}, {}).run_id != first.run_id


def test_one_detector_is_one_version_whichever_run_brings_it(
    registry: MlflowClient, detector: Detector, tmp_path: Path
) -> None:
    detector.save(tmp_path / "detector")
    first, second = Run.open("key", "a run", {}, {}), Run.open("other", "a run", {}, {})
    assert register(first, tmp_path / "detector", NAME, Evidence("first", {"seed": "1"})) == "1"
    assert register(first, tmp_path / "detector", NAME, Evidence("again", {"seed": "2"})) == "1"
    assert register(second, tmp_path / "detector", NAME, Evidence("other", {"seed": "3"})) == "1"
    version = registry.get_model_version_by_alias(NAME, "challenger")
    assert (str(version.version), version.run_id, version.tags["seed"]) == ("1", first.run_id, "1")
    assert version.description == "first"


def test_what_was_asked_for_last_is_the_challenger(registry: MlflowClient, detector: Detector, tmp_path: Path) -> None:
    run = Run.open("key", "a run", {}, {})
    folders = [tmp_path / "first/detector", tmp_path / "second/detector"]
    for folder, threshold in zip(folders, (0.1, 0.5), strict=True):
        detector.thresholds["nut"] = limits(threshold)
        detector.save(folder)
        register(run, folder, NAME, Evidence(f"threshold {threshold}"))
    assert aliases(NAME) == {"challenger": "2"}
    assert register(run, folders[0], NAME, Evidence()) == "1"
    assert aliases(NAME) == {"challenger": "1"}
    assert register_alone(folders[1], NAME, "recalibrate", "a run of its own", Evidence()) == "2"
    assert aliases(NAME) == {"challenger": "2"}
    assert Run.unfinished("recalibrate") is None


def test_evidence_stays_as_it_was_registered(registry: MlflowClient, detector: Detector, tmp_path: Path) -> None:
    run = Run.open("key", "a run", {}, {})
    for number in (1, 2):
        detector.thresholds["nut"] = limits(float(number))
        detector.save(tmp_path / f"{number}/detector")
        (tmp_path / f"{number}/evidence").mkdir()
        (tmp_path / f"{number}/evidence/metrics.md").write_text(f"of version {number}")
        evidence = Evidence("", {}, tmp_path / f"{number}/evidence", {"multi-class.mean.miss_rate": float(number)})
        assert register(run, tmp_path / f"{number}/detector", NAME, evidence) == str(number)
    for number in (1, 2):
        source = registry.get_model_version(NAME, str(number)).source
        model = registry.get_logged_model(source.removeprefix("models:/"))
        assert [(m.key, m.value) for m in model.metrics] == [("multi-class.mean.miss_rate", float(number))]
        kept = Path(urlsplit(model.artifact_location).path) / "evidence/metrics.md"
        assert kept.read_text() == f"of version {number}"


@pytest.mark.parametrize("moved", [True, False])
def test_a_registry_goes_with_its_folder(
    empty: Path, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    old, new = tmp_path / "old place", tmp_path / "new"
    old.mkdir()
    shutil.copy(empty, old)
    monkeypatch.chdir(old)
    detector.save(tmp_path / "detector")
    register(Run.open("key", "a run", {}, {}), tmp_path / "detector", NAME, Evidence())
    set_alias(NAME, "champion", "1")
    before = {file: file.stat().st_mtime_ns for file in old.rglob("*")}
    if moved:
        old.rename(new)
    else:
        shutil.copytree(old, new)
    with pytest.raises(UserError, match="was moved or copied and still names its artefacts in"):
        Registry(f"sqlite:///{new}/mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # which MLflow's own functions set
    monkeypatch.chdir(new)
    assert download_detector(NAME, "1", tmp_path / "fetched").is_dir()
    run = Run.open("other", "a run", {}, {})
    run.log_file(new / "mlflow.db", "copies")
    assert list(new.glob(f"mlartifacts/{run.run_id}/artifacts/copies/mlflow.db"))
    detector.thresholds["nut"] = limits(0.5)
    detector.save(tmp_path / "second/detector")
    register(run, tmp_path / "second/detector", NAME, Evidence())
    assert Registry(f"sqlite:///{new}/mlflow.db").load(NAME, 1).detector.thresholds["nut"] == limits(0.0)
    if not moved:
        assert {file: file.stat().st_mtime_ns for file in old.rglob("*")} == before


def test_a_registry_without_its_artefacts_is_refused(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    shutil.copy(empty, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    Run.open("key", "a run", {}, {}).log_file(tmp_path / "old/mlflow.db", "copies")
    shutil.copy("mlflow.db", tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new")
    with pytest.raises(UserError, match=r"moved or copied without its artefacts, which lie in .*old/mlartifacts"):
        Run.open("other", "a run", {}, {})


KILLED = """
import os, signal, sys
from pathlib import Path
import mlflow.pyfunc
from pipelines.platform.registry import Evidence, register
from pipelines.platform.runs import Run
log_model = mlflow.pyfunc.log_model
def log_and_die(**options):
    log_model(**options)
    os.kill(os.getpid(), signal.SIGKILL)
mlflow.pyfunc.log_model = log_and_die
register(Run(sys.argv[1]), Path("detector"), sys.argv[2], Evidence())
"""


def test_a_call_killed_before_it_registers_leaves_one_version(
    registry: MlflowClient, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector.save(tmp_path / "detector")
    run = Run.open("key", "a run", {}, {})
    run.end("FINISHED")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    killed = subprocess.run([sys.executable, "-c", KILLED, run.run_id, NAME], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert registry.get_run(run.run_id).info.status == "RUNNING"
    assert register(run, tmp_path / "detector", NAME, Evidence()) == "1"
    held = registry.get_run(run.run_id)
    assert held.info.status == "FINISHED"
    assert len(registry.search_model_versions(f"name = '{NAME}'")) == 1
    assert len(registry.search_logged_models([held.info.experiment_id])) == 1
    assert Detector.load(download_detector(NAME, "1", tmp_path / "fetched")).thresholds == detector.thresholds


TERMINATED = """
import os, signal, sys
from pathlib import Path
import mlflow.pyfunc
from pipelines.platform import command
from pipelines.platform.registry import Evidence, register_alone
mlflow.pyfunc.log_model = lambda **options: os.kill(os.getpid(), signal.SIGTERM)
command.run(lambda: register_alone(Path("detector"), sys.argv[1], "key", "recalibrate", Evidence()))
"""


def test_a_call_ended_by_sigterm_leaves_no_running_run(
    registry: MlflowClient, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector.save(tmp_path / "detector")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    ended = subprocess.run([sys.executable, "-c", TERMINATED, NAME], capture_output=True, check=False)
    assert ended.returncode == 130, ended.stderr
    (run,) = registry.search_runs(["1"])
    assert run.info.status == "KILLED"
    assert register_alone(tmp_path / "detector", NAME, "key", "recalibrate", Evidence()) == "1"
    assert [(r.info.run_id, r.info.status) for r in registry.search_runs(["1"])] == [(run.info.run_id, "FINISHED")]


def test_what_ray_makes_of_sigterm_is_no_failure(registry: MlflowClient) -> None:
    run = Run.open("key", "a run", {}, {})
    with pytest.raises(SystemExit), run.underway():
        raise SystemExit(signal.SIGTERM)
    assert registry.get_run(run.run_id).info.status == "KILLED"


def test_new_thresholds_are_a_new_version(registry: MlflowClient, detector: Detector, tmp_path: Path) -> None:
    run = Run.open("key", "a run", {}, {})
    detector.save(tmp_path / "first/detector")
    assert register(run, tmp_path / "first/detector", NAME, Evidence()) == "1"
    set_alias(NAME, "champion", "1")
    detector.thresholds["nut"] = limits(0.5)
    detector.save(tmp_path / "second/detector")
    assert register(run, tmp_path / "second/detector", NAME, Evidence()) == "2"
    assert aliases(NAME) == {"challenger": "2", "champion": "1"}
    held = Detector.load(download_detector(NAME, "2", tmp_path / "fetched"))
    assert held.thresholds["nut"].threshold == 0.5


def test_odd_names_of_categories_are_taken(registry: MlflowClient) -> None:
    run = Run.open("key", "a run", {}, {"dvc.data/a#1": "x"})
    run.log_metrics({"bolt (M6).loss": 1.0})
    run.log_epochs([{"epoch": 1, "loss": 2.0}], "nut+bolt.")
    run.log_epochs([{"epoch": 1, "loss": 2.0}], "nut+bolt.")
    data = registry.get_run(run.run_id).data
    assert (data.metrics["bolt _M6_.loss"], data.tags["dvc.data/a_1"]) == (1.0, "x")
    assert len(registry.get_metric_history(run.run_id, "nut_bolt.loss")) == 1
