"""What Ray runs: one worker of a training that several share, or a whole training of one category."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

from pipelines import stage
from pipelines.tracking import Run
from pipelines.training_loop import LoopConfig, TrainingLoop


@dataclass(frozen=True)
class WorkerConfig:
    """A loop, and the MLflow run to log to: its id and its server."""

    loop: LoopConfig
    run_id: str
    tracking_uri: str


def train_worker(config: Mapping[str, Any]) -> None:
    """The entry of every Ray Train worker; `config` holds one `WorkerConfig`. Goes on from the last checkpoint."""
    # Ray tells of every report at length through the root logger; the epoch lines are enough.
    logging.getLogger().setLevel(logging.WARNING)
    worker: WorkerConfig = config["worker"]
    context = ray.train.get_context()
    loop = TrainingLoop(
        worker.loop,
        ray.train.torch.get_device(),
        context.get_world_rank(),
        context.get_world_size(),
        wrap=ray.train.torch.prepare_model,
    )
    run = Run(worker.run_id, worker.tracking_uri) if loop.rank == 0 else None
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        loop.start()
    else:
        with checkpoint.as_directory() as folder:
            loop.load(Path(folder))
        if run is not None:
            run.log_epochs(loop.progress.history)  # the interruption may have come between checkpoint and MLflow
    while not loop.done:
        loop.epoch()
        _report(loop, run)


def _report(loop: TrainingLoop, run: Run | None) -> None:
    """Tells Ray the epoch's numbers; every `checkpoint_every` epochs, and at the end, with a checkpoint."""
    row = loop.progress.history[-1]
    if run is not None:
        print(_line(loop), flush=True)
    due = loop.done or loop.progress.epoch % loop.settings.checkpoint_every == 0
    if run is None or not due:
        ray.train.report(row)
    else:
        with tempfile.TemporaryDirectory() as folder:
            loop.save(Path(folder))
            ray.train.report(row, checkpoint=ray.train.Checkpoint.from_directory(folder))
        # Only what a checkpoint holds is never computed a second time.
        run.log_epochs(loop.progress.history)


def train_category(config: LoopConfig, category: str, folder: Path) -> None:
    """Trains one category's model to the end and leaves its checkpoint in `folder`: the body of a Ray task."""
    loop = TrainingLoop(config, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    loop.start()
    while not loop.done:
        loop.epoch()
        print(f"{category}: {_line(loop)}", flush=True)
    with stage.written_whole(folder) as temporary:
        temporary.mkdir()
        loop.save(temporary)


def _line(loop: TrainingLoop) -> str:
    row = loop.progress.history[-1]
    return f"epoch {loop.progress.epoch}/{loop.settings.epochs}  loss {row['loss']:.4f}  val {row['val_loss']:.4f}"
