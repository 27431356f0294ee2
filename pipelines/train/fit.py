"""A training on Ray, from the feature store, under one MLflow run."""

import csv
import hashlib
import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from inpformer.errors import without_password
from inpformer.features.store import store_key
from inpformer.judging.detector import CONFIG_FILE, Detector
from inpformer.judging.learnt import ALL, LearntFrom
from inpformer.judging.seen import SeenImages
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods.modes import SINGLE_CLASS, ZERO_SHOT, setting_name
from inpformer.training.settings import TrainSettings
from pipelines.features.encoder_check import check_encoder
from pipelines.features.index import FeatureIndex, read_index
from pipelines.features.settings import FeatureSettings
from pipelines.features.sheet import PICTURES
from pipelines.gate.linked import Linked, read_linked
from pipelines.manifest.table import Manifest, read_manifest
from pipelines.platform import files, provenance
from pipelines.platform.params import flat, read_all, read_section
from pipelines.platform.runs import Run
from pipelines.platform.tracking import tracking_uri
from pipelines.platform.weights import load_encoder
from pipelines.train.across import refuse_folds, train_across
from pipelines.train.pictures import draw_losses
from pipelines.train.run_record import write_run
from pipelines.training.checkpoints import open_checkpoints
from pipelines.training.features import training_anomalies, training_features
from pipelines.training.job import History, Job, borrow, build_on, train_apart, train_together
from pipelines.tune.winner import read_winner, with_values


def run_key(
    manifest: Manifest,
    index: FeatureIndex,
    settings: TrainSettings,
    taken: str,
    folds: int | None = None,
    linked: Linked | None = None,
) -> str:
    """Names a training: equal for equal code, data and parameters, so that a repeated call resumes. `taken` names the
    weights that are taken as they are, "" for none; `linked` images lie in one of the `folds`.
    """
    identity = [
        provenance.source_digest("inpformer", "pipelines/features", "pipelines/training", "pipelines/train"),
        manifest.digest,
        store_key(index.encoder_key, index.kept),
        index.table,
        index.anomalies,
        settings.identity,
        taken,
        folds,
        [] if folds is None or linked is None else linked.groups,
    ]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def train(job: Job, learnt_from: LearntFrom) -> tuple[Detector, History]:
    """Trains in the setting asked for; returns the detector, not calibrated yet, and its history."""
    settings = job.settings
    if settings.setting == SINGLE_CLASS:
        models, histories = train_apart(job)
        for name, history in histories.items():
            job.run.log_epochs(history, prefix=f"{name}.")
        mean = mean_history(list(histories.values()))
    else:
        model, mean = train_together(job)
        models = {ALL: model}
        job.run.log_epochs(mean)  # all that workers could not tell
    made = Detector(job.encoder, settings.kind, settings.own, models, learnt_from, {}, job.index.tiling)
    return made, mean


def untaught(job: Job, learnt_from: LearntFrom) -> Detector:
    """The detector of a method that learns nothing, in the setting asked for: it has seen no image."""
    settings = job.settings
    names = learnt_from.categories if settings.setting == SINGLE_CLASS else (ALL,)
    models = {name: settings.kind.make(settings.own, job.encoder.shape) for name in names}
    seen = SeenImages.of(())
    return Detector(job.encoder, settings.kind, settings.own, models, learnt_from, {}, job.index.tiling, seen)


def mean_history(histories: Sequence[History]) -> History:
    """Epoch by epoch, over the trainings. A loss that none of a training's steps had is left out of the mean."""
    together = [(rows, dict.fromkeys(name for row in rows for name in row)) for rows in zip(*histories, strict=True)]
    return [{name: fmean(row[name] for row in rows if name in row) for name in names} for rows, names in together]


def seen_images(manifest: Manifest, base: Detector | None) -> SeenImages | None:
    """What the trained detector has seen: the training images, whose forms and parts in made pictures are theirs, and
    all that the detector which it builds on has; None if nobody knows that.
    """
    mine = SeenImages.of(row.sha256 for row in manifest.rows if row.split == "train")
    if base is None:
        return mine
    return None if base.seen is None else mine.with_all_of(base.seen)


def write_losses(history: Sequence[Mapping[str, float]], file: Path) -> None:
    """The numbers of each epoch, for `dvc plots`."""
    with files.written_whole(file) as temporary, temporary.open("w", newline="") as f:
        columns = list(dict.fromkeys(name for row in history for name in row)) or ["epoch", "loss", "val_loss"]
        writer = csv.DictWriter(f, columns)
        writer.writeheader()
        writer.writerows(history)


def run(args: Namespace) -> None:
    """Trains, and leaves the model, the record of the MLflow run and the losses."""
    found = read_winner(args.winner) if args.winner is not None else {}
    settings = with_values(read_section("train", TrainSettings), found, f"{args.winner}: train")
    if found:
        print(f"found by the search: {', '.join(f'{name} {value:.4g}' for name, value in found.items())}", flush=True)
    stored = read_section("features", FeatureSettings)
    folds = read_section("calibrate", CalibrationSettings).folds
    manifest, index = read_manifest(args.manifest), read_index(args.features)
    if folds is not None:
        refuse_folds(settings, manifest.shots)
    encoder = load_encoder(index.encoder)
    check_encoder(encoder, index)
    categories = tuple(manifest.categories)
    setting = setting_name(settings.setting, len(manifest.data_sets), manifest.shots)
    learnt_from, method, other, taken = LearntFrom(setting, manifest.digest, categories), settings.kind, None, ""
    base = None
    if settings.weights is not None:
        weights = Path(settings.weights)
        taken = hashlib.sha256((weights / CONFIG_FILE).read_bytes()).hexdigest() if weights.is_dir() else ""
        if settings.kind.builds_on(settings.own):
            base = build_on(weights, encoder, settings, learnt_from)
            settings = replace(settings, own=settings.own.like(base.settings))
        else:
            other = borrow(weights, encoder, categories, settings.setting == ZERO_SHOT)
            learnt_from, method = other.learnt_from, other.method
    linked = Linked() if folds is None or args.linked is None else read_linked(args.linked)
    key = run_key(manifest, index, settings, taken, folds, linked)
    tags = {
        **provenance.tags(),
        "method": method.name,
        "setting": learnt_from.setting,
        "data.digest": manifest.digest,
        "data.folder": manifest.root.as_posix(),
        "encoder.digest": index.encoder_digest,
        **({} if folds is None else {"calibrate.folds": str(folds)}),
    }
    checkpoints = open_checkpoints(settings.storage, key)
    # Later sections may change without another training: register says on the version what they were.
    params = {name: values for name, values in read_all().items() if name in ("manifest", "features", "train")}
    used = flat(params) | {f"train.{name}": value for name, value in found.items()}
    run = Run.open(key, f"{manifest.root.name}-{key[:6]}", used, tags)
    print(
        f"{method.name}, {learnt_from.setting}, MLflow run {run.run_id} at {without_password(tracking_uri())}",
        flush=True,
    )
    with run.underway():
        features, anomalies = training_features(stored, index), training_anomalies(stored, index)
        job = Job(manifest, index, encoder, settings, features, run, checkpoints, anomalies, base)
        if settings.kind.anomalies and args.anomalies is not None:
            run.log_files(args.anomalies / PICTURES, "pictures/anomalies")
        if folds is not None:
            detector, histories = train_across(job, stored, learnt_from, folds, linked)
            history = mean_history(list(histories.values()))
            run.log_epochs(history)  # of each fold it would be as many calls as there are epochs and folds
        elif other is None and not method.learns:
            detector, history = untaught(job, learnt_from), []
        elif other is None:
            detector, history = train(job, learnt_from)
            detector.seen = seen_images(manifest, base)
        else:
            borrowed = (other.method, other.settings, other.models, learnt_from)
            detector, history = Detector(encoder, *borrowed, {}, index.tiling, other.seen), []
        with files.written_whole(args.model) as folder:
            detector.save(folder)
        write_losses(history, args.loss)
        picture = args.loss.with_suffix(".png")
        draw_losses(history, picture)
        run.log_file(picture, "pictures")
        write_run(run, args.run)
    # Only now: the outputs stand, so a later `dvc repro --force` is to train anew, not to find itself finished.
    checkpoints.remove()
