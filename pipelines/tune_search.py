"""A search with Ray Tune: Optuna's sampler proposes, ASHA stops the hopeless, MLflow has every trial."""

import hashlib
import json
import logging
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

# First of ours: it silences Ray, which looks at its environment when it is imported.
from pipelines.cluster import cause, cluster  # isort: skip

import optuna
import ray
import torch
from optuna.distributions import BaseDistribution
from ray import tune
from ray.exceptions import RayError
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from inpformer.encoder import Encoder
from inpformer.errors import UserError
from inpformer.setting import MULTI_CLASS
from pipelines import provenance, stage, tune_report
from pipelines.devices import best_device
from pipelines.encoder_check import check_encoder
from pipelines.features import FeatureIndex, FeatureSettings, read_index
from pipelines.manifest_table import Manifest, read_manifest
from pipelines.params import flat, read_all, read_section
from pipelines.tracking import Run, tracking_uri
from pipelines.training_features import training_features
from pipelines.training_job import Job
from pipelines.training_loop import TrainingLoop, TrainSettings
from pipelines.tune_judged import judged_set
from pipelines.tune_runs import Lines, TrialRuns
from pipelines.tune_settings import TuneSettings
from pipelines.tune_space import distributions
from pipelines.tune_table import FAILED, FINISHED, STOPPED, Trial, winner
from pipelines.tune_trial import TrialTask, run_trial
from pipelines.tuned import write_tuned
from pipelines.weights import load_encoder

METRIC, EPOCH = "objective", "epoch"
MOST_TRIAL_FAILURES = 3  # of a trial's machine or process; it goes on from its checkpoint


@dataclass(frozen=True)
class Search:
    """A search as the driver sees it. `key` names it: equal for equal code, data and parameters. `train` is what a
    trial trains with, but for the values sampled.
    """

    settings: TuneSettings
    train: TrainSettings
    space: dict[str, BaseDistribution]
    key: str

    @property
    def folder(self) -> Path:
        """Where Ray keeps it until it is finished."""
        return Path(self.train.storage).resolve() / self.key


class Asha(ASHAScheduler):
    """ASHA that knows, when a search goes on, what its earlier trials reached: Ray restores trials alone."""

    def on_trial_add(self, controller: Any, trial: RayTrial) -> None:
        """Takes a trial, a restored one with what it reported."""
        super().on_trial_add(controller, trial)
        for epoch, objective in trial.last_result.get("judged", []):
            self.on_trial_result(controller, trial, {EPOCH: epoch, METRIC: objective})


def report_epochs(settings: TuneSettings, train: TrainSettings) -> tuple[int, ...]:
    """After which epochs a trial is judged and saved: at ASHA's rungs, as often as train saves, and at the end."""
    rungs, epoch = set(range(train.checkpoint_every, train.epochs, train.checkpoint_every)), settings.grace
    while epoch < train.epochs:
        rungs.add(epoch)
        epoch *= settings.reduction
    return (*sorted(rungs), train.epochs)


def plan(settings: TuneSettings, train: TrainSettings, manifest: Manifest, index: FeatureIndex) -> Search:
    """Raises UserError where there is nothing to tune, and for a space or a duration that cannot be."""
    if train.setting != MULTI_CLASS or train.weights is not None:
        what = "train.weights is set" if train.weights is not None else f"train.setting is {train.setting}"
        raise UserError(
            f"params.yaml: {what}: a search tunes the training of one model for all categories, set tune.trials to 0 "
            f"(or search with train.setting {MULTI_CLASS}, and take the values over)."
        )
    space = distributions(settings.space, train)
    # Workers that share a batch give the losses of one: a trial has one.
    train = replace(train, num_workers=1, epochs=settings.epochs or train.epochs)
    if settings.grace > train.epochs:
        raise UserError(f"params.yaml: tune.grace is {settings.grace}: a trial has {train.epochs} epochs, set fewer.")
    code = provenance.source_digest("train", "features", "tune")
    identity = [code, manifest.digest, index.encoder_key, index.table, asdict(settings), asdict(train)]
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return Search(settings, train, space, f"tune-{key}")


def make_task(search: Search, manifest: Manifest, index: FeatureIndex, encoder: Encoder, job: Job) -> TrialTask:
    """What all trials share: the judged pictures go through the encoder here, and the projection is fitted here."""
    loop = job.loop()
    probe = TrainingLoop(loop, torch.device("cpu"))
    probe.start()
    projection = None if probe.projection is None else probe.projection.state_dict()
    judged = judged_set(manifest, encoder.to(best_device()), index.tiling, search.settings)
    return TrialTask(loop, projection, judged, report_epochs(search.settings, search.train), search.settings.seeds)


def find(search: Search, task: TrialTask) -> list[Trial]:
    """Runs the trials, or those that an interrupted search did not finish; returns all, in the order they ended in.

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
            grid = make_tuner(search, task).fit()
        except (tune.TuneError, RayError) as error:
            raise UserError(f"the search failed: {cause(error)}.") from None
        finally:
            for number, handler in before.items():  # Ray keeps them
                signal.signal(number, handler)
    if grid.num_terminated + grid.num_errors < search.settings.trials:
        raise KeyboardInterrupt
    trials = sorted((_trial(grid[n], search) for n in range(len(grid))), key=lambda pair: pair[0])
    if winner([trial for _, trial in trials]) is None:
        reason = f": {cause(grid.errors[0]).rstrip('.')}" if grid.errors else ""
        raise UserError(f"no trial of the search was trained to the end{reason}.")
    return [trial for _, trial in trials]


def make_tuner(search: Search, task: TrialTask) -> tune.Tuner:
    """A new search, or the one that was interrupted."""
    settings = search.settings
    resources = {"cpu": settings.cpus, "gpu": settings.gpus}
    trainable = tune.with_resources(tune.with_parameters(run_trial, task=task), resources)
    if is_restorable(search.folder):
        return tune.Tuner.restore(str(search.folder), trainable, resume_errored=True)
    shutil.rmtree(search.folder, ignore_errors=True)
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
                EPOCH, max_t=search.train.epochs, grace_period=settings.grace, reduction_factor=settings.reduction
            ),
            num_samples=settings.trials,
            max_concurrent_trials=settings.concurrency,
            reuse_actors=True,  # else each trial loads torch anew
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=search.key,
            storage_path=str(search.folder.parent),
            failure_config=tune.FailureConfig(max_failures=MOST_TRIAL_FAILURES),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            callbacks=[TrialRuns(search.key), Lines(settings.trials, search.train.epochs)],
            verbose=0,
        ),
    )


def _name(trial: RayTrial) -> str:
    return f"trial-{trial.trial_id}"


def is_restorable(folder: Path) -> bool:
    """Whether a search can go on from what it left: not if it was killed before its first or amid a later note."""
    states = sorted(folder.glob("experiment_state-*.json"))
    with suppress(OSError, ValueError, IndexError):
        return (folder / "tuner.pkl").stat().st_size > 0 and bool(json.loads(states[-1].read_text())["trial_data"])
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
    state = FAILED if result.error else FINISHED if m.get(EPOCH) == search.train.epochs else STOPPED
    values = {name: (result.config or {}).get(name) for name in search.space}
    reached = (m.get(EPOCH, 0), m.get(METRIC), m.get("image_ap"), m.get("pixel_ap"), m.get("seconds", 0.0))
    return m.get("ended", float("inf")), Trial(values, state, *reached)


def run(settings: TuneSettings, manifest_file: Path, features_file: Path, out: Path, report: Path) -> None:
    """The stage: searches, and leaves the winner's values and the report."""
    train, features = read_section("train", TrainSettings), read_section("features", FeatureSettings)
    manifest, index = read_manifest(manifest_file), read_index(features_file)
    search = plan(settings, train, manifest, index)
    encoder = load_encoder(index.encoder)
    check_encoder(encoder, index)
    params = {name: values for name, values in read_all().items() if name in ("manifest", "features", "train", "tune")}
    tags = {**provenance.tags(), "kind": "tune", "data.digest": manifest.digest}
    mlflow_run = Run.open(search.key, f"tune {manifest.root.name}-{search.key[-6:]}", flat(params), tags)
    where = stage.without_password(tracking_uri())
    print(f"{settings.trials} trials, MLflow run {mlflow_run.run_id} at {where}", flush=True)
    try:
        stored = training_features(features, index)
        job = Job(manifest, index, encoder, search.train, stored, mlflow_run, search.key)
        trials = find(search, make_task(search, manifest, index, encoder, job))
        _leave(trials, search, mlflow_run, out, report)
    except KeyboardInterrupt:
        mlflow_run.end("KILLED")
        raise
    except BaseException:
        mlflow_run.end("FAILED")
        raise
    mlflow_run.end("FINISHED")
    # Only now: the outputs stand, so a later `dvc repro --force` is to search anew, not to find itself finished.
    shutil.rmtree(search.folder, ignore_errors=True)


def _leave(trials: Sequence[Trial], search: Search, mlflow_run: Run, out: Path, report: Path) -> None:
    best = winner(trials)
    assert best is not None
    assert best.objective is not None
    with stage.written_whole(report) as folder:
        folder.mkdir()
        tune_report.write(trials, search.space, folder)
    mlflow_run.log_files(report, "tune")
    mlflow_run.log_metrics({METRIC: best.objective})
    write_tuned(out, best.objective, best.values)
    values = ", ".join(f"{name} {value:.4g}" for name, value in best.values.items())
    print(f"best of {len(trials)} trials: objective {best.objective:.4f} with {values}", flush=True)
