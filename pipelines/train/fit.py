"""INP-Former on Ray, from the feature store, under one MLflow run."""

import csv
import hashlib
import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from inpformer.errors import without_password
from inpformer.judging.detector import CONFIG_FILE, Detector
from inpformer.judging.trained import ALL, Training
from inpformer.methods.setting import SINGLE_CLASS, ZERO_SHOT, setting_name
from inpformer.training.settings import TrainSettings
from pipelines.evaluate import pictures
from pipelines.features.encoder_check import check_encoder
from pipelines.features.index import FeatureIndex, read_index
from pipelines.features.settings import FeatureSettings
from pipelines.manifest.table import Manifest, read_manifest
from pipelines.platform import files, provenance
from pipelines.platform.params import flat, read_all, read_section
from pipelines.platform.runs import Run
from pipelines.platform.tracking import tracking_uri
from pipelines.platform.weights import load_encoder
from pipelines.train.run_record import write_run
from pipelines.training.checkpoints import open_checkpoints
from pipelines.training.features import training_features
from pipelines.training.job import History, Job, borrow, train_apart, train_together
from pipelines.tune.winner import read_tuned, with_values

LOSS_COLUMNS = ("epoch", "loss", "soft_mining", "coherence", "val_loss", "gradient_norm", "lr", "refused_steps")


def run_key(manifest: Manifest, index: FeatureIndex, settings: TrainSettings, taken: str) -> str:
    """Names a training: equal for equal code, data and parameters, so that a repeated call resumes. `taken` names the
    weights that are taken as they are, "" for none.
    """
    identity = [
        provenance.source_digest("inpformer", "pipelines/features", "pipelines/training", "pipelines/train"),
        manifest.digest,
        index.encoder_key,
        index.table,
    ]
    return hashlib.sha256(json.dumps([*identity, asdict(settings), taken], sort_keys=True).encode()).hexdigest()[:16]


def train(job: Job, training: Training) -> tuple[Detector, History]:
    """Trains in the setting asked for; returns the detector, not calibrated yet, and its history."""
    losses, tiling = job.settings.losses, job.index.tiling
    if job.settings.setting == SINGLE_CLASS:
        models, histories = train_apart(job)
        for name, history in histories.items():
            job.run.log_epochs(history, prefix=f"{name}.")
        return Detector(job.encoder, models, losses, training, {}, tiling), _mean(list(histories.values()))
    model, history = train_together(job)
    job.run.log_epochs(history)  # all that workers could not tell
    return Detector(job.encoder, {ALL: model}, losses, training, {}, tiling), history


def _mean(histories: Sequence[History]) -> History:
    """Epoch by epoch, over the categories."""
    return [{name: fmean(row[name] for row in rows) for name in rows[0]} for rows in zip(*histories, strict=True)]


def write_losses(history: Sequence[Mapping[str, float]], file: Path) -> None:
    """The numbers of each epoch, for `dvc plots`."""
    with files.written_whole(file) as temporary, temporary.open("w", newline="") as f:
        writer = csv.DictWriter(f, LOSS_COLUMNS)
        writer.writeheader()
        writer.writerows(history)


def run(args: Namespace) -> None:
    """Trains, and leaves the model, the record of the MLflow run and the losses."""
    tuned = read_tuned(args.tuned) if args.tuned is not None else {}
    settings = with_values(read_section("train", TrainSettings), tuned, f"{args.tuned}: train")
    if tuned:
        print(f"tuned: {', '.join(f'{name} {value:.4g}' for name, value in tuned.items())}", flush=True)
    stored = read_section("features", FeatureSettings)
    manifest, index = read_manifest(args.manifest), read_index(args.features)
    encoder = load_encoder(index.encoder)
    check_encoder(encoder, index)
    categories = tuple(manifest.categories)
    setting = setting_name(settings.setting, len(manifest.data_sets), manifest.shots)
    training, other, taken = Training(setting, manifest.digest, categories), None, ""
    if settings.weights is not None:
        weights = Path(settings.weights)
        other = borrow(weights, encoder, categories, settings.setting == ZERO_SHOT)
        training, taken = other.training, hashlib.sha256((weights / CONFIG_FILE).read_bytes()).hexdigest()
    key = run_key(manifest, index, settings, taken)
    tags = {
        **provenance.tags(),
        "setting": training.setting,
        "data.digest": manifest.digest,
        "data.folder": manifest.root.as_posix(),
        "encoder.digest": index.encoder_digest,
    }
    checkpoints = open_checkpoints(settings.storage, key)
    # Later sections may change without another training: register says on the version what they were.
    params = {name: values for name, values in read_all().items() if name in ("manifest", "features", "train")}
    used = flat(params) | {f"train.{name}": value for name, value in tuned.items()}
    run = Run.open(key, f"{manifest.root.name}-{key[:6]}", used, tags)
    print(f"{training.setting}, MLflow run {run.run_id} at {without_password(tracking_uri())}", flush=True)
    with run.underway():
        job = Job(manifest, index, encoder, settings, training_features(stored, index), run, checkpoints)
        if other is None:
            detector, history = train(job, training)
        else:
            detector, history = Detector(encoder, other.models, other.losses, training, {}, index.tiling), []
        with files.written_whole(args.model) as folder:
            detector.save(folder)
        write_losses(history, args.loss)
        picture = args.loss.with_suffix(".png")
        pictures.losses(history, picture)
        run.log_file(picture, "pictures")
        write_run(run, args.run)
    # Only now: the outputs stand, so a later `dvc repro --force` is to train anew, not to find itself finished.
    checkpoints.remove()
