"""The search from parameters to report: what is searched, what trials share, and what is left of them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path

from inpformer.devices import best_device
from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError, without_password
from inpformer.features.store import store_key
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods.base import Train
from inpformer.methods.modes import MULTI_CLASS, SEMI_SUPERVISED
from inpformer.training.settings import TrainSettings
from pipelines.features.encoder_check import check_encoder
from pipelines.features.index import FeatureIndex, read_index
from pipelines.features.settings import FeatureSettings
from pipelines.manifest.table import Manifest, read_manifest
from pipelines.platform import files, provenance
from pipelines.platform.params import flat, read_all, read_section
from pipelines.platform.runs import Run
from pipelines.platform.tracking import tracking_uri
from pipelines.platform.weights import load_encoder
from pipelines.training.checkpoints import open_checkpoints
from pipelines.training.features import training_anomalies, training_features
from pipelines.training.job import Job, wanted_by
from pipelines.tune.judged import judged_set
from pipelines.tune.on_cluster import METRIC, Search, find
from pipelines.tune.report import write as write_report
from pipelines.tune.settings import MISS_RATE, TuneSettings
from pipelines.tune.space import distributions, space_of
from pipelines.tune.table import Trial, best_trial
from pipelines.tune.trial import TrialTask
from pipelines.tune.winner import with_values, write_winner


def report_epochs(settings: TuneSettings, train: TrainSettings, epochs: int) -> tuple[int, ...]:
    """After which epochs a trial is judged and saved: at ASHA's rungs, as often as train saves, and at the end."""
    rungs, epoch = set(range(train.checkpoint_every, epochs, train.checkpoint_every)), settings.grace
    while epoch < epochs:
        rungs.add(epoch)
        epoch *= settings.reduction
    return (*sorted(rungs), epochs)


def plan(settings: TuneSettings, train: TrainSettings, manifest: Manifest, index: FeatureIndex) -> Search:
    """Raises UserError where there is nothing to tune, and for a space or a duration that cannot be."""
    if train.setting not in (MULTI_CLASS, SEMI_SUPERVISED) or train.weights is not None:
        what = "train.weights is set" if train.weights is not None else f"train.setting is {train.setting}"
        raise UserError(
            f"params.yaml: {what}: a search tunes the training of one model for all categories, set tune.trials to 0 "
            f"(or search with train.setting {MULTI_CLASS}, and take the values over)."
        )
    space = distributions(space_of(settings, train), train)
    # Workers that share a batch give the losses of one: a trial has one.
    train = replace(train, num_workers=1)
    if settings.epochs is not None:
        if not hasattr(train.own, "epochs"):
            raise UserError(
                f"params.yaml: tune.epochs is {settings.epochs}: {train.method} takes no epochs, set it to null."
            )
        shorter = {"epochs": settings.epochs} | ({"fewest_steps": 0} if hasattr(train.own, "fewest_steps") else {})
        values = {f"{train.method}.{name}": value for name, value in shorter.items()}
        train = with_values(train, values, "params.yaml: tune.epochs: train")
    train = without_floor(train, sum(not row.label for row in manifest.split("train")))
    wanted_by(train, index.shape)  # refuses settings that do not suit the encoder
    epochs = trial_epochs(train, index)
    last = epochs[-1] if epochs else 0
    if epochs and settings.grace > last:
        of = " in its last training" if len(epochs) > 1 else ""
        raise UserError(f"params.yaml: tune.grace is {settings.grace}: a trial has {last} epochs{of}, set fewer.")
    # What a trial is worth shows in its last training: before, a part of its map is of what was not trained yet.
    settings = replace(settings, grace=settings.grace + sum(epochs) - last)
    code = provenance.source_digest("inpformer", "pipelines/features", "pipelines/training", "pipelines/tune")
    identity = [
        code,
        manifest.digest,
        store_key(index.encoder_key, index.kept),
        index.table,
        index.anomalies,
        _searched(settings),
        train.identity,
    ]
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return Search(settings, train, space, f"tune-{key}", sum(epochs))


def without_floor(train: TrainSettings, images: int) -> TrainSettings:
    """With as many epochs as the floors in steps ask for, so that all trials have the same, whatever their batches."""
    steps, values = max(1, images // train.batch_size), {}
    own = {field.name: getattr(train.own, field.name) for field in fields(train.own)}
    tables = {f"{name}.": table for name, table in own.items() if is_dataclass(table)}
    for prefix, table in ({"": train.own} | tables).items():
        if fewest := getattr(table, "fewest_steps", 0):
            values[f"{train.method}.{prefix}epochs"] = max(table.epochs, -(-fewest // steps))
            values[f"{train.method}.{prefix}fewest_steps"] = 0
    return with_values(train, values, "params.yaml: train") if values else train


def trial_epochs(train: TrainSettings, index: FeatureIndex) -> list[int]:
    """The epochs of each training of a full trial, in order: none for a method without steps."""
    phases = train.kind.make(train.own, index.shape).phases()
    return [phase.epochs for phase in phases if isinstance(phase, Train)]


def _searched(settings: TuneSettings) -> dict[str, object]:
    """What decides the outcome of a search, not where it runs."""
    return {name: value for name, value in asdict(settings).items() if name not in ("concurrency", "cpus", "gpus")}


def make_task(search: Search, manifest: Manifest, index: FeatureIndex, encoder: Encoder, job: Job) -> TrialTask:
    """What all trials share: the judged pictures go through the encoder here.

    Raises UserError if a batch that may be tried is larger than the training images are many.
    """
    loop = job.loop()
    space = space_of(search.settings, search.train)
    count, batch = loop.features.open().count("train"), space.get("batch_size")
    if batch is not None and (most := max(batch.choices or (batch.high or 0,))) > count:
        raise UserError(
            f"params.yaml: tune.space.batch_size goes up to {most:g}: there are only {count} training images."
        )
    wants = wanted_by(search.train, index.shape)
    judged = judged_set(manifest, encoder.to(best_device()), wants, index.tiling, search.settings)
    reports = report_epochs(search.settings, search.train, search.epochs)
    own = search.settings
    return TrialTask(loop, judged, reports, own.seeds, own.objective, own.false_alarm_rate)


def run(settings: TuneSettings, manifest_file: Path, features_file: Path, out: Path, report: Path) -> None:
    """The stage: searches, and leaves the winner's values and the report."""
    train, features = read_section("train", TrainSettings), read_section("features", FeatureSettings)
    manifest, index = read_manifest(manifest_file), read_index(features_file)
    search = plan(settings, train, manifest, index)
    encoder = load_encoder(index.encoder)
    check_encoder(encoder, index)
    kept = open_checkpoints(train.storage, search.key)
    params = {name: values for name, values in read_all().items() if name in ("manifest", "features", "train", "tune")}
    tags = {**provenance.tags(), "kind": "tune", "data.digest": manifest.digest}
    mlflow_run = Run.open(search.key, f"tune {manifest.root.name}-{search.key[-6:]}", flat(params), tags)
    where = without_password(tracking_uri())
    print(f"{settings.trials} trials, MLflow run {mlflow_run.run_id} at {where}", flush=True)
    asked = read_section("calibrate", CalibrationSettings).false_alarm_rate
    if settings.objective == MISS_RATE and settings.false_alarm_rate != asked:
        print(
            f"misses are counted at tune.false_alarm_rate {settings.false_alarm_rate:g}, calibrate asks for {asked:g}"
        )
    with mlflow_run.underway():
        stored = training_features(features, index)
        anomalies = training_anomalies(features, index)
        job = Job(manifest, index, encoder, search.train, stored, mlflow_run, kept, anomalies)
        trials = find(search, make_task(search, manifest, index, encoder, job), kept)
        _leave(trials, search, mlflow_run, out, report)
    # Only now: the outputs stand, so a later `dvc repro --force` is to search anew, not to find itself finished.
    kept.remove()


def _leave(trials: Sequence[Trial], search: Search, mlflow_run: Run, out: Path, report: Path) -> None:
    best = best_trial(trials)
    assert best is not None
    assert best.objective is not None
    with files.written_whole(report) as folder:
        folder.mkdir()
        write_report(trials, search.space, folder)
    mlflow_run.log_files(report, "tune")
    mlflow_run.log_metrics({METRIC: best.objective})
    write_winner(out, best.objective, best.values)
    values = ", ".join(f"{name} {value:.4g}" for name, value in best.values.items())
    said = f"objective {best.objective:.4f}, pseudo-anomalies missed {best.miss_rate:.4f}"
    print(f"best of {len(trials)} trials: {said}, with {values}", flush=True)
