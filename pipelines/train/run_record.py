"""The record that train leaves of its MLflow run, for the stages after it: which need not load Ray for it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from inpformer.config import build
from inpformer.errors import UserError
from pipelines.platform import files
from pipelines.platform.runs import Run


@dataclass(frozen=True)
class RunRecord:
    """MLflow's id of the run."""

    run_id: str


def write_run(run: Run, file: Path) -> None:
    """Writes the record; `read_run` is its counterpart."""
    with files.written_whole(file) as temporary:
        temporary.write_text(json.dumps(asdict(RunRecord(run.run_id))) + "\n")


def read_run(file: Path) -> Run:
    """The MLflow run that a pipeline run belongs to. Raises UserError if `file` is missing or damaged."""
    try:
        return Run(build(RunRecord, json.loads(file.read_text()), str(file)).run_id)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): run `dvc repro --force --single-item train`.") from None
