"""The comparison in MLflow: a run for all of it, and one nested in it for each training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.compare.data import Data
from pipelines.compare.findings import Findings
from pipelines.compare.judgement import Judgement
from pipelines.compare.trainings import Training
from pipelines.platform import provenance
from pipelines.platform.params import flat, read_all
from pipelines.platform.runs import PARENT_TAG, Run

COMPARED = ("manifest", "features", "train", "calibrate", "promote")


def open_run(key: str, trainings: Sequence[Training], data: Data) -> Run:
    """The run of a comparison; of one that was interrupted, the same."""
    params: dict[str, Any] = {name: values for name, values in read_all().items() if name in COMPARED}
    tags = {
        **provenance.tags(),
        "kind": "compare",
        "methods": ", ".join(dict.fromkeys(one.settings.method for one in trainings)),
        "data.digest": data.manifest.digest,
        "encoder.digest": data.index.encoder_digest,
    }
    return Run.open(f"compare-{key}", f"compare {data.manifest.root.name}-{key[:6]}", flat(params), tags)


def nested_run(parent: Run, training: Training, earlier: Mapping[str, str]) -> Run:
    """That of a training below the comparison's; `earlier` are the ids of those that an interrupted call opened."""
    if training.name in earlier:
        found = Run(earlier[training.name], parent.uri)
        found.reopen()
        return found
    tags = {PARENT_TAG: parent.run_id, "method": training.settings.method}
    params = flat({"train": training.settings.table})
    return Run.open(f"{parent.run_id}-{training.key}", training.name, params, tags)


def log_training(run: Run, training: Training, judgement: Judgement) -> None:
    """Ends the run of a training: its losses by epoch, how long it took, and what it is worth by category."""
    record = training.record
    run.log_epochs(record["history"])
    metrics = {
        f"{name}.{category}": one.value
        for (category, kind), cell in judgement.cells.items()
        if kind is None
        for name, one in cell.items()
    }
    run.log_metrics({**metrics, "training_seconds": record["seconds"]})
    run.end("FINISHED")


def log_findings(run: Run, found: Findings, folder: Path) -> None:
    """The means of each method, its costs, and the page with its numbers."""
    metrics = {f"{metric}.{method}": one.value for metric, own in found.whole.items() for method, one in own.items()}
    costs = {f"milliseconds.{method}": cost.milliseconds for method, cost in found.costs.items()}
    run.log_metrics(metrics | costs)
    run.log_files(folder, "compare")
