"""Runs, versions and aliases in a real MLflow on SQLite."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from pipelines.platform.tracking import Run, aliases, download_detector, set_alias, tracking_uri
from pipelines.promote.aliases import promote
from tests.conftest import limits

NAME = "inpformer"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """An empty registry in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return MlflowClient(tracking_uri())


@pytest.fixture
def three_versions(registry: MlflowClient) -> MlflowClient:
    registry.create_registered_model(NAME)
    for _ in range(3):
        registry.create_model_version(NAME, source="file:///nowhere")
    return registry


def test_promotion_keeps_the_way_back(three_versions: MlflowClient) -> None:
    set_alias(NAME, "challenger", "1")
    assert promote(NAME, "challenger") == ("1", None)
    assert promote(NAME, "3") == ("3", "1")
    assert aliases(NAME) == {"challenger": "1", "champion": "3", "previous": "1"}
    assert promote(NAME, "previous") == ("1", "3")
    assert aliases(NAME) == {"challenger": "1", "champion": "1", "previous": "3"}


def test_promoting_the_champion_again_changes_nothing(three_versions: MlflowClient) -> None:
    promote(NAME, "1")
    promote(NAME, "2")
    assert promote(NAME, "2") == ("2", "1")
    assert aliases(NAME) == {"champion": "2", "previous": "1"}


def test_what_does_not_exist_is_not_promoted(three_versions: MlflowClient) -> None:
    with pytest.raises(UserError, match=r"has no version @challenger \(it has none\): run `dvc repro` first"):
        promote(NAME, "challenger")
    with pytest.raises(UserError, match="version=9"):
        promote(NAME, "9")
    assert aliases(NAME) == {}


def test_an_unfinished_run_is_taken_up_and_a_finished_one_is_not(registry: MlflowClient) -> None:
    first = Run.open("key", "a run", {"train.epochs": 2}, {"git.commit": "abc"})
    first.end("KILLED")
    again = Run.open("key", "a run", {"train.epochs": 2}, {})
    assert again.run_id == first.run_id
    assert registry.get_run(first.run_id).info.status == "RUNNING"
    again.end("FINISHED")
    assert Run.open("key", "a run", {}, {}).run_id != first.run_id
    assert Run.open("other", "a run", {}, {}).run_id != first.run_id


def test_a_run_registers_one_version_however_often(registry: MlflowClient, detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "detector")
    run = Run.open("key", "a run", {}, {})
    assert run.register(tmp_path / "detector", NAME, {"seed": "1"}) == "1"
    assert run.register(tmp_path / "detector", NAME, {"seed": "2"}) == "1"
    version = registry.get_model_version_by_alias(NAME, "challenger")
    assert (str(version.version), version.run_id, version.tags["seed"]) == ("1", run.run_id, "2")


KILLED = """
import os, signal, sys
from pathlib import Path
import mlflow.pyfunc
from pipelines.platform.tracking import Run
log_model = mlflow.pyfunc.log_model
def log_and_die(**options):
    log_model(**options)
    os.kill(os.getpid(), signal.SIGKILL)
mlflow.pyfunc.log_model = log_and_die
Run(sys.argv[1]).register(Path("detector"), sys.argv[2], {})
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
    assert run.register(tmp_path / "detector", NAME, {}) == "1"
    held = registry.get_run(run.run_id)
    assert held.info.status == "FINISHED"
    assert len(registry.search_model_versions(f"name = '{NAME}'")) == 1
    assert len(registry.search_logged_models([held.info.experiment_id])) == 1
    assert Detector.load(download_detector(NAME, "1", tmp_path / "fetched")).thresholds == detector.thresholds


def test_new_thresholds_are_a_new_version(registry: MlflowClient, detector: Detector, tmp_path: Path) -> None:
    run = Run.open("key", "a run", {}, {})
    detector.save(tmp_path / "first/detector")
    assert run.register(tmp_path / "first/detector", NAME, {}) == "1"
    promote(NAME, "challenger")
    detector.thresholds["nut"] = limits(0.5)
    detector.save(tmp_path / "second/detector")
    assert run.register(tmp_path / "second/detector", NAME, {}) == "2"
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
