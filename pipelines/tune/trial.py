"""What Ray runs for each trial: trainings with the sampled values, judged and saved every few epochs."""

import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from ray import tune

from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings
from pipelines.tune.judged import JudgedSet
from pipelines.tune.objective import Objective, objective_of
from pipelines.tune.winner import with_values

CHECKPOINT_REPORT = "report.json"


@dataclass(frozen=True)
class TrialTask:
    """What all trials share. After each of the epochs `reports`, rising, a trial is judged and saved; the last one is
    the end, 0 for a method without steps. `objective` and `false_alarm_rate` are tune's.
    """

    loop: LoopConfig
    judged: JudgedSet
    reports: tuple[int, ...]
    seeds: int
    objective: str
    false_alarm_rate: float


def run_trial(values: Mapping[str, float], task: TrialTask) -> None:
    """Trains with `values`, by dotted name of train, once for each seed, side by side. Goes on from its checkpoint."""
    logging.getLogger("ray").setLevel(logging.WARNING)  # it tells of every checkpoint
    settings = with_values(task.loop.settings, values, "train")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    every = [replace(settings, seed=settings.seed + n) for n in range(task.seeds)]
    loops, report = _resume(lambda: [_loop(task, one, device) for one in every])
    if report.get("epoch") == max(1, task.reports[-1]):
        tune.report(report)  # the interruption came between the last checkpoint and the end
    began = time.monotonic() - report.get("seconds", 0.0)
    for epoch in task.reports:
        if (report and loops[0].done) or 0 < epoch <= loops[0].progress.epoch:
            continue
        for loop in loops:
            loop.run_to(epoch)
        objective = Objective.mean(
            [objective_of(loop.model, task.judged, device, task.false_alarm_rate) for loop in loops]
        )
        value = objective.value(task.objective)
        report = {
            "epoch": max(1, epoch),  # ASHA counts from 1
            "objective": value,
            "miss_rate": objective.miss_rate,
            "image_ap": objective.image_ap,
            "pixel_ap": objective.pixel_ap,
            "val_loss": _val_loss(loops),
            "judged": [*report.get("judged", []), [max(1, epoch), value]],
            "seconds": time.monotonic() - began,
            "ended": time.time(),
        }
        with tempfile.TemporaryDirectory() as folder:
            for number, loop in enumerate(loops):
                (Path(folder) / str(number)).mkdir()
                loop.save(Path(folder) / str(number))
            (Path(folder) / CHECKPOINT_REPORT).write_text(json.dumps(report))
            tune.report(report, checkpoint=tune.Checkpoint.from_directory(folder))


def _val_loss(loops: Sequence[TrainingLoop]) -> float | None:
    """The mean over the seeds, None for a method without steps."""
    rows = [loop.progress.history[-1] for loop in loops if loop.progress.history]
    return fmean(row["val_loss"] for row in rows) if rows else None


def _loop(task: TrialTask, settings: TrainSettings, device: torch.device) -> TrainingLoop:
    return TrainingLoop(replace(task.loop, settings=settings), device)


def _resume(begin: Callable[[], list[TrainingLoop]]) -> tuple[list[TrainingLoop], dict[str, Any]]:
    """What an interrupted trial left, with its last report; if there is nothing, what begins, and an empty one."""
    loops, checkpoint = begin(), tune.get_checkpoint()
    if checkpoint is None:
        return loops, {}
    try:
        with checkpoint.as_directory() as folder:
            report: dict[str, Any] = json.loads((Path(folder) / CHECKPOINT_REPORT).read_text())
            for number, loop in enumerate(loops):
                loop.load(Path(folder) / str(number))
            return loops, report
    except FileNotFoundError:
        # The driver was killed in the moment in which a newer checkpoint took its place: begin anew.
        return begin(), {}
