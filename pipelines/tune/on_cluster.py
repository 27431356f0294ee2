"""The trials of a search on Ray Tune: begun, or taken up where they were interrupted."""

import json
import logging
import os
import pickle
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

# First of ours: it silences Ray, which looks at its environment when it is imported.
from pipelines.platform.cluster import cluster, failure  # isort: skip

import optuna
import ray
from optuna.distributions import BaseDistribution
from pyarrow.fs import FileSelector
from ray import tune
from ray.exceptions import RayError
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from inpformer.errors import UserError
from inpformer.training.settings import TrainSettings
from pipelines.training.checkpoints import Checkpoints
from pipelines.tune.runs import Lines, TrialRuns
from pipelines.tune.settings import TuneSettings
from pipelines.tune.table import FAILED, FINISHED, STOPPED, Trial, best_trial
from pipelines.tune.trial import TrialTask, run_trial

METRIC, EPOCH = "objective", "epoch"
MOST_TRIAL_FAILURES = 3  # of a trial, which goes on from its checkpoint


@dataclass(frozen=True)
class Search:
    """A search as the driver sees it. `key` names it: equal for equal code, data and parameters. `train` is what a
    trial trains with, but for the values sampled, for `epochs`. Until it is finished it lies below `train.storage`.
    """

    settings: TuneSettings
    train: TrainSettings
    space: dict[str, BaseDistribution]
    key: str
    epochs: int


class Asha(ASHAScheduler):
    """ASHA that knows, when a search goes on, what its earlier trials reached: Ray restores trials alone."""

    def on_trial_add(self, controller: Any, trial: RayTrial) -> None:
        """Takes a trial, a restored one with what it reported."""
        super().on_trial_add(controller, trial)
        for epoch, objective in trial.last_result.get("judged", []):
            self.on_trial_result(controller, trial, {EPOCH: epoch, METRIC: objective})


def find(search: Search, task: TrialTask, kept: Checkpoints) -> list[Trial]:
    """Runs the trials, or those that an interrupted search did not finish; returns all, in the order they ended in.
    `kept` is where the search lies until it is finished.

    Raises UserError if none was trained to the end, KeyboardInterrupt if the search was interrupted.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it tells at length of what is said in a line here
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Tables of every report, a file for each and TensorBoard's are not needed: MLflow has them.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    # What ended within so many seconds of a kill -9 is taken up again, from its checkpoint.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "5")
    os.environ["TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S"] = "0"
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with cluster():
        check_resources(search.settings)
        # Ray would abort; to Ctrl-C it answers by noting where the search stands.
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        try:
            grid = make_tuner(search, task, kept).fit()
        except (tune.TuneError, RayError, OSError) as error:
            raise failure("the search", error) from None
        finally:
            for number, handler in before.items():  # Ray keeps them
                signal.signal(number, handler)
    if grid.num_terminated + grid.num_errors < search.settings.trials:
        raise KeyboardInterrupt
    trials = sorted((_trial(grid[n], search) for n in range(len(grid))), key=lambda pair: pair[0])
    if best_trial([trial for _, trial in trials]) is None:
        if grid.errors:
            raise failure("every trial of the search", grid.errors[0])
        raise UserError("no trial of the search was trained to the end: set tune.trials higher.")
    return [trial for _, trial in trials]


def make_tuner(search: Search, task: TrialTask, kept: Checkpoints) -> tune.Tuner:
    """A new search, or the one that was interrupted."""
    settings = search.settings
    resources = {"cpu": settings.cpus, "gpu": settings.gpus}
    trainable = tune.with_resources(tune.with_parameters(run_trial, task=task), resources)
    if is_restorable(kept):
        path = f"{kept.root}/{kept.key}"
        try:
            return tune.Tuner.restore(path, trainable, resume_errored=True, storage_filesystem=kept.filesystem)
        except (EOFError, pickle.UnpicklingError):
            raise UserError(f"the search in {kept.address} is damaged: remove that to search anew.") from None
    kept.remove()
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            search_alg=OptunaSearch(
                search.space,
                metric=METRIC,
                mode="max",
                sampler=optuna.samplers.TPESampler(seed=settings.seed, n_startup_trials=max(4, settings.trials // 4)),
            ),
            scheduler=Asha(
                EPOCH,
                max_t=max(1, search.epochs),
                grace_period=min(settings.grace, max(1, search.epochs)),
                reduction_factor=settings.reduction,
            ),
            num_samples=settings.trials,
            max_concurrent_trials=settings.concurrency,
            reuse_actors=True,  # else each trial loads torch anew
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=search.key,
            storage_path=kept.root,
            storage_filesystem=kept.filesystem,
            failure_config=tune.FailureConfig(max_failures=MOST_TRIAL_FAILURES),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            callbacks=[TrialRuns(search.key), Lines(settings.trials, max(1, search.epochs))],
            verbose=0,
        ),
    )


def _name(trial: RayTrial) -> str:
    return f"trial-{trial.trial_id}"


def is_restorable(kept: Checkpoints) -> bool:
    """Whether a search can go on from what it left: not if it was killed before its first or amid a later note."""
    files = kept.filesystem.get_file_info(FileSelector(f"{kept.root}/{kept.key}", allow_not_found=True))
    states = sorted(file.path for file in files if file.base_name.startswith("experiment_state-"))
    if not states or not any(file.base_name == "tuner.pkl" and file.size for file in files):
        return False
    for state in reversed(states):
        with suppress(OSError, ValueError, KeyError), kept.filesystem.open_input_stream(state) as note:
            return bool(json.loads(note.read())["trial_data"])
        kept.filesystem.delete_file(state)  # half written: Ray would take it for the latest
    return False


def check_resources(settings: TuneSettings) -> None:
    """Raises UserError if no machine of the cluster has what a trial takes: Ray would wait for one for ever."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(m.get("CPU", 0) >= settings.cpus and m.get("GPU", 0) >= settings.gpus for m in machines):
        raise UserError(
            f"params.yaml: tune.cpus is {settings.cpus:g} and tune.gpus {settings.gpus:g}: no machine of the cluster "
            "has as many, ask for less a trial."
        )


def _trial(result: tune.Result, search: Search) -> tuple[float, Trial]:
    """A trial of ours, and when it ended."""
    m: dict[str, Any] = result.metrics or {}
    state = FAILED if result.error else FINISHED if m.get(EPOCH) == max(1, search.epochs) else STOPPED
    values = {name: (result.config or {}).get(name) for name in search.space}
    epochs, seconds, ended = m.get(EPOCH, 0), m.get("seconds", 0.0), m.get("ended", float("inf"))
    rates = m.get("miss_rate"), m.get("image_ap"), m.get("pixel_ap")
    return ended, Trial(values, state, epochs, m.get(METRIC), *rates, seconds)
