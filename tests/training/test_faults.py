"""What dies under a training: processes, nodes, servers, room on the disk. It ends as if nothing had happened."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient

from inpformer.config import build
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings
from pipelines.features.index import read_index
from pipelines.features.settings import FeatureSettings
from pipelines.training.checkpoints import open_checkpoints
from pipelines.training.features import training_features
from tests.mlflow_server import MlflowServer
from tests.nodes import Nodes
from tests.s3_server import S3Server
from tests.training.test_train import losses
from tests.training.test_train import project as project

EPOCHS = 60
A, B = "127.0.0.11", "127.0.0.12"
# Ray looks for new nodes once a minute, which is a long time for a test, as is what it waits for nodes that died.
STAGE = (
    "import pipelines.platform.cluster as c; c.RESIZE_SECONDS = 1.0; "
    "from pipelines.platform import command; from pipelines.train.__main__ import main; command.run(main)"
)
# Differences in the order of additions grow with every step: with small ones they stay small.
SLOWLY = {"lr": 1e-5, "final_lr": 1e-5}
QUICK = {
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "3",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    "RAY_DEDUP_LOGS": "0",
}


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server that was started, but may not answer yet."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def nodes(
    tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server, mlflow_server: MlflowServer
) -> Iterator[Nodes]:
    """Two nodes of one CPU each; they start while the MLflow server does."""
    cluster = Nodes(tmp_path_factory.mktemp("nodes"), s3_server.environment)
    try:
        cluster.add(A)
        cluster.add(B)
        mlflow_server.wait()
        yield cluster
    finally:
        cluster.close()


class Training:
    """The stage train in a process of its own, with what it printed in a file."""

    def __init__(
        self,
        project: Path,
        name: str,
        nodes: Nodes,
        mlflow: MlflowServer,
        data: str = "nuts",
        epochs: int = EPOCHS,
        **changed: object,
    ) -> None:
        self.folder, self._mlflow = project / name, mlflow
        self.folder.mkdir()
        params = yaml.safe_load((project / "params.yaml").read_text())
        params["train"] |= {"storage": str(self.folder / "runs"), "batch_size": 3, **changed}
        params["train"]["inp_former"] |= {**SLOWLY, "epochs": epochs}
        self.settings = build(TrainSettings, params["train"], "train")
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))
        self._command = [sys.executable, "-c", STAGE, "--manifest", f"../{data}.parquet"]
        self._command += [
            "--features",
            f"../{data}.json",
            "--model",
            "model",
            "--run",
            "run.json",
            "--loss",
            "loss.csv",
        ]
        self._environment = {**os.environ, **nodes.environment, **QUICK, "MLFLOW_TRACKING_URI": mlflow.uri}
        self._log = self.folder / "log"
        self.start()

    def start(self) -> None:
        """Runs the command, the first time or once more."""
        with self._log.open("ab") as f:
            self.process = subprocess.Popen(self._command, cwd=self.folder, env=self._environment, stdout=f, stderr=f)

    @property
    def told(self) -> str:
        """All that it printed so far."""
        return self._log.read_text()

    @property
    def epoch(self) -> int:
        """The last epoch that it told of."""
        return max(map(int, re.findall(rf"epoch (\d+)/{self.settings.own.epochs}", self.told)), default=0)

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits; the training must not end meanwhile."""
        end = time.monotonic() + 180
        while not condition():
            assert self.process.poll() is None or condition(), self.told  # its last words may come with its end
            assert time.monotonic() < end, self.told
            time.sleep(0.05)

    def goes_on(self, epochs: int = 2) -> None:
        """Waits until it is so many epochs further than ever."""
        goal = self.epoch + epochs
        self.until(lambda: self.epoch >= goal)

    def ended_undisturbed(self) -> None:
        """Waits for its end, which must be that of a training that nothing disturbed; one run in MLflow tells so."""
        assert self.process.wait(timeout=400) == 0, self.told
        told = losses(self.folder)
        np.testing.assert_allclose(told, undisturbed(self.folder.parent)[: len(told)], rtol=1e-3)
        client = MlflowClient(self._mlflow.uri)
        experiment = client.get_experiment_by_name("inpformer")
        with (self.folder / "run.json").open() as f:
            run_id = yaml.safe_load(f)["run_id"]
        key = client.get_run(run_id).data.tags["inpformer.run_key"]
        runs = client.search_runs([experiment.experiment_id], f"tags.`inpformer.run_key` = '{key}'")
        assert [(run.info.run_id, run.info.status) for run in runs] == [(run_id, "FINISHED")]
        steps = [metric.step for metric in client.get_metric_history(run_id, "loss")]
        assert sorted(steps) == list(range(1, self.settings.own.epochs + 1))
        left = open_checkpoints(self.settings.storage, key)
        assert left.newest() is None  # a finished run leaves nothing to resume by accident
        assert not list(Path("/tmp").glob(f"inpformer-{key}*"))
        assert not [path for path in self.folder.iterdir() if path.name.endswith(".tmp")]


def alone(project: Path, settings: TrainSettings, data: str = "nuts", category: str | None = None) -> TrainingLoop:
    """A training in this process, without Ray."""
    index = read_index(project / f"{data}.json")
    stored = FeatureSettings(index.encoder, store=str(project / "store"))
    features = replace(training_features(stored, index), category=category)
    loop = TrainingLoop(LoopConfig(settings, index.shape, features), torch.device("cpu"))
    loop.run_to(settings.own.epochs)
    return loop


def slowly(epochs: int) -> TrainSettings:
    """What a `Training` trains with."""
    own = InpFormerSettings(grid=4, channels=32, epochs=epochs, warmup=5, **SLOWLY)
    return TrainSettings(batch_size=3, own=own)


def history(loop: TrainingLoop) -> np.ndarray:
    """Epoch by epoch: loss, soft mining, coherence, validation."""
    names = ("loss", "soft_mining", "coherence", "val_loss")
    return np.array([[row[name] for name in names] for row in loop.progress.history])


@cache
def undisturbed(project: Path) -> np.ndarray:
    """The losses of a training that nothing disturbs, of any length, as its learning rate stays the same."""
    return history(alone(project, slowly(EPOCHS)))


def test_servers_a_worker_and_the_driver_die(
    project: Path, nodes: Nodes, mlflow_server: MlflowServer, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    training = Training(project, "servers", nodes, mlflow_server, epochs=30, num_workers=2, storage="s3://tests/runs")
    training.goes_on()
    mlflow_server.kill()
    s3_server.kill()
    time.sleep(20)  # this long they are dead
    s3_server.start()
    training.goes_on()
    assert "MLflow does not answer: it gets these epochs later." in training.told
    os.kill(nodes.workers(A)[0], signal.SIGKILL)
    training.goes_on()
    training.process.kill()
    training.process.wait()
    mlflow_server.start()
    mlflow_server.wait()
    training.start()
    training.goes_on()
    training.ended_undisturbed()


def test_nodes_die_come_back_and_are_taken_away(project: Path, nodes: Nodes, mlflow_server: MlflowServer) -> None:
    training = Training(project, "nodes", nodes, mlflow_server, num_workers=[1, 2], checkpoint_every=2)
    training.goes_on()
    assert len(nodes.workers(A) + nodes.workers(B)) == 2
    nodes.kill(B)
    training.goes_on()
    nodes.add(B)
    training.until(lambda: len(nodes.workers(B)) == 1)
    training.goes_on()
    nodes.drain(B, 10)
    saved = training.folder / "runs"
    training.until(lambda: any(int(f.parent.name[-6:]) % 2 for f in saved.glob("*/*/progress.json")))  # for the notice
    training.until(lambda: not nodes.workers(B))
    nodes.kill(B)
    training.ended_undisturbed()
    nodes.add(B)  # for whoever comes next


def test_a_full_disk_ends_the_run_until_there_is_room(
    project: Path, nodes: Nodes, mlflow_server: MlflowServer, small_disk: Path, tmp_path: Path
) -> None:
    loops = [alone(project, slowly(2), "two", name) for name in ("bolt", "nut")]
    loops[0].save(tmp_path)
    size = sum(file.stat().st_size for file in tmp_path.iterdir() if file.is_file())
    subprocess.run(["mount", "-o", f"remount,size={3 * size // 2}", str(small_disk)], check=True)
    changed = {"setting": "single-class", "epochs": 2, "checkpoint_every": 2, "storage": str(small_disk)}
    training = Training(project, "disk", nodes, mlflow_server, "two", **changed)
    assert training.process.wait(timeout=400) == 1
    assert f"error: no space left in {small_disk}" in training.told
    assert "Traceback" not in training.told
    assert not (training.folder / "model").exists()
    assert all((folder / "progress.json").is_file() for folder in small_disk.glob("*/*/*"))
    subprocess.run(["mount", "-o", f"remount,size={3 * size}", str(small_disk)], check=True)
    training.start()
    assert training.process.wait(timeout=400) == 0, training.told
    np.testing.assert_allclose(losses(training.folder), np.mean([history(loop) for loop in loops], axis=0), rtol=1e-4)
    assert not list(small_disk.iterdir())
