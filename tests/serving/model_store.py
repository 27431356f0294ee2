"""A registry with tiny detectors, as the service reads it."""

import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from mlflow import MlflowClient
from prometheus_client.parser import text_string_to_metric_families

from inpformer.encoders.encoder import Encoder
from inpformer.images.deep import WHITE
from inpformer.images.tiling import Tiling
from inpformer.judging.calibration import Threshold
from inpformer.judging.challenge import Challenge
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL
from inpformer.judging.plausibility import Plausibility
from serving.fetched import DETECTOR_FOLDER
from tests.conftest import INP_FORMER, MULTI, OWN, limits, untrained
from tests.serving.pictures import as_file, picture

MODEL, ALIAS = "inpformer", "champion"
DEADLINE = 300.0
# Of rivets alone it is known what they look like: noise.
THRESHOLDS = {"nut": limits(0.0), "bolt": limits(2.0), "pin": limits(2.0, review=0.0)}
# The usual distance to its threshold is what scores differ by.
THRESHOLDS["rivet"] = Threshold(2.0, 2.0, 0.01, None, 0, tuple(1.9 + n / 1000 for n in range(100)))


def eventually(check: Callable[[], Any]) -> Any:
    """The first true value of `check`, asked again and again until the deadline."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if value := check():
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {DEADLINE} seconds")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def samples(service: httpx.Client) -> dict[tuple[str, tuple[str, ...]], float]:
    """What /metrics says: by name and labels but that of the replica, of which each deployment has one."""
    answer = service.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            assert sample.labels.pop("replica")
            found[(sample.name, tuple(sample.labels.values()))] = sample.value
    return found


@dataclass
class ModelStore:
    """A registry in a folder, and what was put into it."""

    folder: Path
    encoder: Encoder
    detectors: dict[int, Detector] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    def create(self, empty: Path) -> "ModelStore":
        if not (self.folder / "mlflow.db").exists():
            shutil.copy(empty, self.folder)
        self.client = MlflowClient(self.uri, self.uri)
        self.experiment = self.client.create_experiment("tests", (self.folder / "artifacts").as_uri())
        self.client.create_registered_model(MODEL)
        return self

    def publish(
        self, break_it: Callable[[Path], None] = lambda folder: None, tiling: Tiling | None = None, white: int = WHITE
    ) -> int:
        """A new detector, registered in the shape that the pipeline gives it, and promoted."""
        number = len(list(self.folder.glob("detector-*")))
        model, one = untrained(self.encoder, number), self.encoder
        encoder = Encoder(replace(one.settings, white=white), one.network, replace(one.transform, white=white))
        detector = Detector(encoder, INP_FORMER, OWN, {ALL: model}, MULTI, THRESHOLDS, tiling)
        rivets = [picture(seed) for seed in range(10)]
        found = detector.predict(rivets, ["rivet"] * len(rivets))
        detector.plausibility = Plausibility.of({"rivet": found.looks})
        detector.challenges = (Challenge(as_file(rivets[0]), "rivet", float(found.scores[0])),)
        version = self.register(detector, break_it)
        self.detectors[version] = detector
        self.promote(version)
        return version

    def register(self, detector: Detector, break_it: Callable[[Path], None] = lambda folder: None) -> int:
        folder = self.folder / f"detector-{len(list(self.folder.glob('detector-*')))}"
        detector.save(folder)
        break_it(folder)
        run = self.client.create_run(self.experiment)
        self.client.log_artifacts(run.info.run_id, str(folder), f"model/{DETECTOR_FOLDER}")
        source = f"{run.info.artifact_uri}/model"
        return int(self.client.create_model_version(MODEL, source, run.info.run_id).version)

    def promote(self, version: int) -> None:
        self.client.set_registered_model_alias(MODEL, ALIAS, str(version))
