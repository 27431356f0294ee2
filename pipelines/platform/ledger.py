"""Where the record of a registered model lies in MLflow: texts by number that can be added and never changed.

They are the parameters of one run, as MLflow refuses another value for a parameter that a run has: whoever writes a
number first has it, in SQLite and on a server alike. That there is one run for all, the registered model NAME-record
sees to, which only one can make.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from mlflow.entities import Param, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from inpformer.errors import UserError
from pipelines.platform.tracking import client, experiment_id, is_absent, reaching_mlflow

EXPERIMENT = "inpformer-record"
RECORD_TAG, RUN_TAG, HEAD_TAG = "inpformer.record", "inpformer.record.run", "inpformer.record.head"
SIGNATURE = ".signature"
# Of six digits each: nobody makes us count further.
_NUMBERED = re.compile(r"[0-9]{6}")
MOST = 999_999


@dataclass(frozen=True)
class Held:
    """What MLflow holds of a record: texts and their signatures by number. `head` is the number and the digest of an
    entry that was the last one, as noted beside the record; None where nothing is noted.
    """

    texts: Mapping[int, str]
    signatures: Mapping[int, str]
    head: tuple[int, str] | None = None


class Ledger:
    """The record's run of one registered model. A call may be done twice, as an answer may be lost."""

    def __init__(self, model_name: str, run_id: str) -> None:
        self.model_name, self.run_id = model_name, run_id

    @classmethod
    @reaching_mlflow
    def find(cls, model_name: str) -> "Ledger | None":
        """The record of a model, if there is one. Raises UserError if its place is taken by something else."""
        try:
            tags = client().get_registered_model(_place(model_name)).tags
        except MlflowException as error:
            if is_absent(error):
                return None
            raise
        if not (run_id := tags.get(RUN_TAG)):
            raise UserError(
                f"the registry has a model {_place(model_name)} that is no record of ours (it has no tag {RUN_TAG}): "
                f"rename it, as the record of {model_name} is kept under that name."
            )
        return cls(model_name, str(run_id))

    @classmethod
    @reaching_mlflow
    def open(cls, model_name: str) -> "Ledger":
        """The record of a model, made if there is none; of two that make one at once, both get the first one's."""
        if found := cls.find(model_name):
            return found
        server = client()
        # Refused to who may not change the model: the record's run would be theirs, and closed to who may.
        server.set_registered_model_tag(model_name, RECORD_TAG, _place(model_name))
        tags = {RECORD_TAG: model_name}
        run = server.create_run(experiment_id(server, EXPERIMENT), run_name=f"record of {model_name}", tags=tags)
        run_id = str(run.info.run_id)
        try:
            server.create_registered_model(
                _place(model_name),
                tags={RUN_TAG: run_id},
                description=f"The record of {model_name}, in the parameters of run {run_id}: never delete either. "
                f"`python -m pipelines.audit verify` checks it.",
            )
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
        winner = cls.find(model_name)
        if winner is not None and winner.run_id != run_id:
            server.delete_run(run_id)
        else:
            server.update_run(run_id, status="FINISHED")
        return winner or cls(model_name, run_id)

    @reaching_mlflow
    def read(self) -> Held:
        """All of it. Raises UserError if its run was deleted."""
        try:
            run = client().get_run(self.run_id)
        except MlflowException as error:
            if not is_absent(error):
                raise
            raise UserError(
                f"the record of {self.model_name} is gone: MLflow has no run {self.run_id}. Restore MLflow's database "
                f"from a copy, or correct the tag {RUN_TAG} of the registered model {_place(self.model_name)}."
            ) from None
        if run.info.lifecycle_stage != "active":
            raise UserError(
                f"the record of {self.model_name} was deleted: bring it back with `mlflow runs restore --run-id "
                f"{self.run_id}`."
            )
        texts: dict[int, str] = {}
        signatures: dict[int, str] = {}
        for key, value in run.data.params.items():
            number = key.removesuffix(SIGNATURE)
            if _NUMBERED.fullmatch(number):
                (signatures if key.endswith(SIGNATURE) else texts)[int(number)] = value
        return Held(dict(sorted(texts.items())), signatures, _head(self._noted()))

    @reaching_mlflow
    def others(self) -> dict[str, str]:
        """The first texts of all other records, by their runs: deleted ones too, and those that nothing points at."""
        server = client()
        experiment = server.get_experiment_by_name(EXPERIMENT)
        runs = server.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL) if experiment else []
        first = f"{1:06d}"
        held = {str(run.info.run_id): run.data.params for run in runs if run.info.run_id != self.run_id}
        return {run_id: params[first] for run_id, params in held.items() if first in params}

    def _noted(self) -> str:
        try:
            return str(client().get_registered_model(_place(self.model_name)).tags.get(HEAD_TAG, ""))
        except MlflowException as error:
            if is_absent(error):
                return ""
            raise

    @reaching_mlflow
    def write(self, number: int, text: str, signature: str | None = None) -> bool:
        """Whether the number is now this text's: nobody else had it. The signature is written with it or not at all.

        Raises UserError where no number is left.
        """
        if number > MOST:
            raise UserError(f"the record of {self.model_name} has an entry {MOST}, the last that it can hold.")
        server, key = client(), f"{number:06d}"
        params = [Param(key, text)] + ([Param(f"{key}{SIGNATURE}", signature)] if signature else [])
        try:
            server.log_batch(self.run_id, params=params)
        except MlflowException:
            held = server.get_run(self.run_id).data.params.get(key)
            if held is None:
                raise
            return bool(held == text)
        return True

    def note_head(self, number: int, digest: str) -> None:
        """Notes beside the record which entry is its last one, so that one that is cut off is missed."""
        with suppress(UserError):  # the entry is written: a note that lags behind says less, and nothing wrong
            self._note_head(f"{number} {digest}")

    @reaching_mlflow
    def _note_head(self, text: str) -> None:
        client().set_registered_model_tag(_place(self.model_name), HEAD_TAG, text)


def _place(model_name: str) -> str:
    return f"{model_name}-record"


def _head(text: str) -> tuple[int, str] | None:
    number, _, digest = text.partition(" ")
    return (int(number), digest) if _NUMBERED.fullmatch(number.zfill(6)) and digest else None
