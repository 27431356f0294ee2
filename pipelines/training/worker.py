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
from inpformer.training.loop import LoopConfig, Row, TrainingLoop
from pipelines.platform.runs import Run
from pipelines.training.checkpoints import FINISHED, NAME, Checkpoints


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
    if name is not None:
        with worker.checkpoints.fetched(name) as folder:
            loop.load(folder)
    while not loop.done:
        _report(loop, loop.advance(), worker)


def _report(loop: TrainingLoop, row: Row | None, worker: WorkerConfig) -> None:
    """Prints the line of what was done; every `checkpoint_every` epochs, at the end of a phase, and from the moment
    that a worker's machine has notice to go, leaves a checkpoint and tells Ray and MLflow. Ray takes a report every two
    seconds, no more.
    """
    checkpoint = None
    regular = is_due(loop, row)
    # Asked by every worker in every epoch, as Ray wants it, so that all get one answer.
    due = ray.train.get_preemption_info() is not None or regular
    if loop.rank == 0:
        print(_line(loop, row), flush=True)
    if not due:
        return
    if loop.rank == 0:
        name = checkpoint_name(loop)
        with worker.checkpoints.saving(name) as folder:
            loop.save(folder)
        checkpoint = ray.train.Checkpoint(worker.checkpoints.path(name), worker.checkpoints.filesystem)
    ray.train.report(
        row or {"epoch": loop.progress.epoch},
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


def is_due(loop: TrainingLoop, row: Row | None) -> bool:
    """Whether to leave a checkpoint after an epoch (`row`) or after a phase without gradient (None), soon repeated."""
    if loop.done or row is None:
        return loop.done
    return loop.progress.epoch % loop.settings.checkpoint_every == 0 or loop.progress.steps == 0


def checkpoint_name(loop: TrainingLoop) -> str:
    """Of where a loop stands."""
    return NAME.format(loop.progress.phase, loop.progress.epoch)


def train_category(config: LoopConfig, category: str, checkpoints: Checkpoints) -> None:
    """Trains one category's model to the end and leaves its checkpoint as FINISHED: the body of a Ray task. Goes on
    from the last checkpoint that an earlier task left.
    """
    if checkpoints.whole(FINISHED):
        return  # Ray runs a task again whose process died after its work was done
    loop = TrainingLoop(config, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if (reached := checkpoints.newest()) is not None:
        with checkpoints.fetched(reached) as folder:
            loop.load(folder)
    while not loop.done:
        row = loop.advance()
        print(f"{category}: {_line(loop, row)}", flush=True)
        if is_due(loop, row):
            name = FINISHED if loop.done else checkpoint_name(loop)
            with checkpoints.saving(name) as folder:
                loop.save(folder)
            checkpoints.keep_only(name)


def _line(loop: TrainingLoop, row: Row | None) -> str:
    if row is None:
        return f"phase {loop.progress.phase} of {len(loop.phases)} done"
    return f"epoch {loop.progress.epoch}/{loop.epochs}  loss {row['loss']:.4f}  val {row['val_loss']:.4f}"
