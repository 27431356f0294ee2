"""What dies under a training: processes, nodes, servers, room on the disk. It ends as if nothing had happened."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from tests.mlflow_server import MlflowServer
from tests.nodes import Nodes
from tests.s3_server import S3Server
from tests.test_train import finish, losses, project

EPOCHS = 60
A, B = "127.0.0.11", "127.0.0.12"
# Ray looks for new nodes once a minute, and waits as long as 30 seconds for those that died.
STAGE = (
    "import pipelines.cluster as c; c.RESIZE_SECONDS = 1.0; from pipelines import stage, train; stage.run(train.main)"
)
QUICK = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "3", "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1"}


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
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
    """Two nodes of one CPU each, while the MLflow server starts too."""
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

    def __init__(self, project: Path, name: str, nodes: Nodes, mlflow: MlflowServer, **changed: object) -> None:
        self.folder = project / name
        self.folder.mkdir()
        params = yaml.safe_load((project / "params.yaml").read_text())
        params["train"] |= {"storage": str(self.folder / "runs"), "epochs": EPOCHS, "batch_size": 3, **changed}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))
        self.log = self.folder / "log"
        self._environment = {**os.environ, **nodes.environment, **QUICK}
        self._environment["MLFLOW_TRACKING_URI"] = mlflow.uri
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", STAGE, "--manifest", "../manifest.parquet", "--features", "../features.json"]
        command += ["--model", "model", "--run", "run.json", "--loss", "loss.csv"]
        with self.log.open("ab") as f:
            self.process = subprocess.Popen(command, cwd=self.folder, env=self._environment, stdout=f, stderr=f)

    @property
    def epoch(self) -> int:
        """The last epoch that it told of."""
        told = re.findall(rf"epoch (\d+)/{EPOCHS}", self.log.read_text())
        return int(told[-1]) if told else 0

    def until(self, condition: Callable[[], bool], seconds: float = 180) -> None:
        """Waits; the training must go on meanwhile."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def reaches(self, epoch: int) -> None:
        self.until(lambda: self.epoch >= epoch)

    def finish(self) -> None:
        assert self.process.wait(timeout=400) == 0, self.log.read_text()


def test_workers_and_nodes_die_come_back_and_are_taken_away(
    project: Path, nodes: Nodes, mlflow_server: MlflowServer
) -> None:
    t = time.time()

    def tell(*what: object) -> None:
        print(f"{time.time() - t:6.1f}", training.epoch, *what, flush=True)

    training = Training(project, "nodes", nodes, mlflow_server, num_workers=[1, 2], checkpoint_every=2)
    training.reaches(4)
    tell("epoch 4", nodes.workers(A), nodes.workers(B))
    os.kill(nodes.workers(A)[0], signal.SIGKILL)
    e = training.epoch
    training.reaches(e + 3)
    tell("worker replaced", nodes.workers(A), nodes.workers(B))
    nodes.kill(B)
    e = training.epoch
    training.reaches(e + 3)
    tell("node lost")
    nodes.add(B)
    tell("node back")
    training.until(lambda: len(nodes.workers(B)) == 1)
    tell("worker on B")
    e = training.epoch
    training.reaches(e + 3)
    tell("running on two")
    nodes.drain(B, 10)
    tell("drained")
    training.finish()
    tell("end")
