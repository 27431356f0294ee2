"""MLflow's runs: one a pipeline run, which its stages and workers write to."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from inpformer.errors import UserError
from pipelines.platform.tracking import (
    EXPERIMENT,
    PATIENCE,
    allowed,
    client,
    experiment_id,
    reaching_mlflow,
    tracking_uri,
)

RUN_KEY_TAG = "inpformer.run_key"
PARENT_TAG = "mlflow.parentRunId"
# MLflow's limits of a batch and of a data set's digest.
BATCH, DIGEST = 1000, 36


class Run:
    """One MLflow run, written to from whichever process holds its id and its server's address. A call waits
    `patience` seconds for a server that is down.
    """

    def __init__(self, run_id: str, uri: str | None = None, patience: float = PATIENCE) -> None:
        self.run_id, self.uri, self.patience = run_id, uri or tracking_uri(), patience
        self._client = client(self.uri)

    @classmethod
    @reaching_mlflow
    def open(cls, key: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> "Run":
        """The unfinished run with this key if there is one, else a new one: an interrupted pipeline goes on in
        its own run.
        """
        server = client()
        if (run := cls.unfinished(key)) is not None:
            run.reopen()
        else:
            named = {allowed(name): value for name, value in tags.items()}
            created = server.create_run(experiment_id(server), run_name=name, tags={**named, RUN_KEY_TAG: key})
            run = cls(created.info.run_id)
        # A call that was cut off may have made the run and not its parameters.
        held = server.get_run(run.run_id).data.params
        server.log_batch(run.run_id, params=[Param(k, str(v)) for k, v in params.items() if k not in held])
        return run

    @classmethod
    @reaching_mlflow
    def unfinished(cls, key: str) -> "Run | None":
        """The latest run with this key that did not finish, if there is one."""
        server = client()
        experiment = server.get_experiment_by_name(EXPERIMENT)
        where, order = f"tags.`{RUN_KEY_TAG}` = '{key}'", ["start_time DESC"]
        runs = server.search_runs([experiment.experiment_id], where, order_by=order) if experiment else []
        return next((cls(run.info.run_id) for run in runs if run.info.status != "FINISHED"), None)

    @reaching_mlflow
    def reopen(self) -> None:
        """Makes it a running one again."""
        self._client.update_run(self.run_id, status="RUNNING")

    @reaching_mlflow
    def nested(self) -> dict[str, str]:
        """The ids of the runs nested in this one, by name."""
        return {run.info.run_name: run.info.run_id for run in self._nested("")}

    def _nested(self, more: str) -> list[MlflowRun]:
        experiment = self._client.get_run(self.run_id).info.experiment_id
        return list(
            self._client.search_runs([experiment], f"tags.`{PARENT_TAG}` = '{self.run_id}'{more}", max_results=10000)
        )

    @contextmanager
    def underway(self) -> Iterator[None]:
        """Ends the run with what is done inside: FINISHED, KILLED by a signal, or FAILED."""
        try:
            yield
        except BaseException as error:
            # Ray answers SIGTERM with SystemExit.
            killed = isinstance(error, KeyboardInterrupt | SystemExit)
            with suppress(UserError):  # a server that is down is not to hide what happened
                Run(self.run_id, self.uri, patience=0).end("KILLED" if killed else "FAILED")
            raise
        self.end("FINISHED")

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0, model_id: str | None = None) -> None:
        """Numbers by name; `step` is the epoch. Those of a logged model are its own from then on."""
        # One time for all attempts: MLflow holds equal metrics once.
        now = int(time.time() * 1000)
        values = [Metric(allowed(name), value, now, step, model_id=model_id) for name, value in metrics.items()]
        for start in range(0, len(values), BATCH):
            self._log(values[start : start + BATCH])

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
        held = {metric.step for metric in self._client.get_metric_history(self.run_id, allowed(f"{prefix}loss"))}
        for row in history:
            if int(row["epoch"]) not in held:
                metrics = {f"{prefix}{name}": value for name, value in row.items() if name != "epoch"}
                self.log_metrics(metrics, step=int(row["epoch"]))

    @reaching_mlflow
    def log_data(self, name: str, digest: str, folder: Path, context: str, counts: Mapping[str, int]) -> None:
        """A data set that the run used, as MLflow's own: it stands beside the run, by `context` (training, testing).
        `counts` is its profile.
        """
        source = json.dumps({"uri": folder.as_posix()})
        held = Dataset(name, digest[:DIGEST], "local", source, profile=json.dumps(dict(counts)))
        self._client.log_inputs(self.run_id, [DatasetInput(held, [InputTag(MLFLOW_DATASET_CONTEXT, context)])])

    @reaching_mlflow
    def tags(self) -> dict[str, str]:
        """Its texts by name."""
        return dict(self._client.get_run(self.run_id).data.tags)

    @reaching_mlflow
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Texts by name."""
        self._client.log_batch(self.run_id, tags=[RunTag(allowed(k), v) for k, v in tags.items()])

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
def download_run_file(run_id: str, path: str, folder: Path) -> Path:
    """Fetches one artefact of a run into `folder`; returns where it lies."""
    return Path(client().download_artifacts(run_id, path, str(folder)))
