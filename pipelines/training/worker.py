"""What Ray runs: one worker of a training that several share, or a whole training of one category."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray.train
import ray.train.torch
import torch

from inpformer.errors import UserError
from inpformer.training.loop import LoopConfig, TrainingLoop
from pipelines.platform.runs import Run
from pipelines.training.checkpoints import NAME, Checkpoints


@dataclass(frozen=True)
class WorkerConfig:
    """A loop; its checkpoints, and the one to go on from, if an earlier call left any; the MLflow run to log to: its
    id and its server.
    """

    loop: LoopConfig
    checkpoints: Checkpoints
    resume: str | None
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
    reached = ray.train.get_checkpoint()
    name = worker.resume if reached is None else reached.path.rpartition("/")[2]
    if name is None:
        loop.start()
    else:
        with worker.checkpoints.fetched(name) as folder:
            loop.load(folder)
    while not loop.done:
        loop.epoch()
        _report(loop, worker)


def _report(loop: TrainingLoop, worker: WorkerConfig) -> None:
    """Prints the epoch's line; every `checkpoint_every` epochs, at the end, and from the moment that a worker's machine
    has notice to go, leaves a checkpoint and tells Ray and MLflow. Ray takes a report every two seconds, no more.
    """
    epoch, checkpoint = loop.progress.epoch, None
    regular = loop.done or epoch % loop.settings.checkpoint_every == 0
    # Asked by every worker in every epoch, as Ray wants it, so that all get one answer.
    due = ray.train.get_preemption_info() is not None or regular
    if loop.rank == 0:
        print(_line(loop), flush=True)
    if not due:
        return
    if loop.rank == 0:
        name = NAME.format(epoch)
        with worker.checkpoints.saving(name) as folder:
            loop.save(folder)
        checkpoint = ray.train.Checkpoint(worker.checkpoints.path(name), worker.checkpoints.filesystem)
    ray.train.report(
        loop.progress.history[-1],
        checkpoint=checkpoint,
        checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD,
    )
    if checkpoint is not None:
        _log(loop, worker)


def _log(loop: TrainingLoop, worker: WorkerConfig) -> None:
    """Tells MLflow what a checkpoint holds, as that is never computed a second time. A server that is down holds
    nothing up: the next checkpoint, or the end, tells it all.
    """
    try:
        Run(worker.run_id, worker.tracking_uri, patience=0).log_epochs(loop.progress.history)
    except UserError:
        print("MLflow does not answer: it gets these epochs later.", file=sys.stderr, flush=True)


def train_category(config: LoopConfig, category: str, checkpoints: Checkpoints, name: str) -> None:
    """Trains one category's model to the end and leaves its checkpoint as `name`: the body of a Ray task."""
    loop = TrainingLoop(config, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    loop.start()
    while not loop.done:
        loop.epoch()
        print(f"{category}: {_line(loop)}", flush=True)
    with checkpoints.saving(name) as folder:
        loop.save(folder)


def _line(loop: TrainingLoop) -> str:
    row = loop.progress.history[-1]
    return f"epoch {loop.progress.epoch}/{loop.settings.epochs}  loss {row['loss']:.4f}  val {row['val_loss']:.4f}"
