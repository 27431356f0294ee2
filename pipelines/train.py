r"""Stage train: INP-Former on Ray Train workers, from the feature store, under one MLflow run.

python -m pipelines.train --manifest MANIFEST.parquet --features FEATURES.json \
    --model FOLDER --run RUN.json --loss LOSS.csv

Interrupted, it goes on from its last checkpoint when called again with the same data and parameters.
"""

import argparse
import csv
import hashlib
import json
import logging
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Otherwise Ray prints every line of a worker twice.
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")

import ray
import ray.exceptions
import ray.train
import ray.train.torch
from safetensors.torch import load_file

from inpformer.detector import Detector
from inpformer.encoder import Encoder, load_encoder
from inpformer.errors import UserError
from inpformer.model import INPFormer, ModelShape
from inpformer.projection import Projection
from inpformer.settings import build
from inpformer.store import FeatureStore
from pipelines import pictures, provenance, stage
from pipelines.features import FeatureIndex, FeatureSettings, find_features, read_index
from pipelines.manifest import Manifest, read_manifest
from pipelines.params import flat, read_all, read_section
from pipelines.tracking import Run, tracking_uri
from pipelines.train_worker import (
    CHECKPOINT_PROGRESS,
    CHECKPOINT_TENSORS,
    TrainSettings,
    WorkerConfig,
    part_of,
    train_worker,
)

# A head of the decoder sees this many channels of a projected encoder; a ViT brings its own number of heads.
CHANNELS_PER_HEAD = 32
MOST_WORKER_FAILURES = 3


@dataclass(frozen=True)
class RunRecord:
    """What the later stages know of this run: MLflow's id of it."""

    run_id: str


def model_shape(encoder: Encoder, settings: TrainSettings) -> ModelShape:
    """Raises UserError where `train.channels` does not suit the encoder."""
    if encoder.heads is not None:
        if settings.channels is not None:
            raise UserError(f"params.yaml: train.channels is {settings.channels}: a ViT needs no projection, set null.")
        return ModelShape(encoder.channels, encoder.heads, encoder.groups, settings.num_prototypes)
    if settings.channels is None or settings.channels > encoder.channels:
        raise UserError(
            f"params.yaml: train.channels is {settings.channels}: "
            f"{encoder.settings.name} needs a projection to at most {encoder.channels} channels, e.g. 128."
        )
    heads = max(1, settings.channels // CHANNELS_PER_HEAD)
    return ModelShape(settings.channels, heads, encoder.groups, settings.num_prototypes)


def run_key(manifest: Manifest, index: FeatureIndex, settings: TrainSettings) -> str:
    """Names a training: equal for equal code, data and parameters, so that a repeated call resumes."""
    identity = [provenance.git_commit(), manifest.digest, index.encoder_key, asdict(settings)]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def train(
    manifest: Manifest, encoder: Encoder, settings: TrainSettings, store: FeatureStore, run: Run, key: str
) -> Path:
    """Runs the workers to the last epoch; returns the folder of the last checkpoint.

    Raises UserError if there are too few images for a batch, features are missing or the workers keep failing.
    """
    rows = [row for row in manifest.rows if row.split != "test"]
    train_digests = sorted({row.sha256 for row in rows if row.split == "train"})
    val_digests = sorted({row.sha256 for row in rows if row.split == "val"})
    if len(train_digests) < settings.batch_size:
        raise UserError(
            f"params.yaml: train.batch_size is {settings.batch_size}: there are only {len(train_digests)} "
            "training images, set it to at most that."
        )
    config = WorkerConfig(
        settings=settings,
        shape=model_shape(encoder, settings),
        encoder_channels=encoder.channels,
        store=store,
        places=find_features(store, rows),
        train=train_digests,
        val=val_digests,
        run_id=run.run_id,
        tracking_uri=run.uri,
    )
    with cluster():
        trainer = ray.train.torch.TorchTrainer(
            train_worker,
            train_loop_config={"worker": config},
            scaling_config=scaling(settings.num_workers),
            run_config=ray.train.RunConfig(
                name=key,
                storage_path=str(Path(settings.storage).resolve()),
                failure_config=ray.train.FailureConfig(max_failures=MOST_WORKER_FAILURES),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
                # The epoch lines are enough; what fails is said in one sentence below, and Ray's files have it all.
                logging_config=ray.train.LoggingConfig(log_level="CRITICAL"),  # type: ignore[call-arg]
            ),
        )
        try:
            result = _fit(trainer)
        except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
            raise UserError(
                f"training failed: {_cause(error)}. Ray's own logs are under /tmp/ray/session_latest."
            ) from None
    if result.checkpoint is None:
        raise UserError(f"training left no checkpoint in {settings.storage}/{key}: remove that folder and run again.")
    return Path(result.checkpoint.path)


def _fit(trainer: ray.train.torch.TorchTrainer) -> ray.train.Result:
    """Runs the trainer. Ray answers Ctrl-C with an exit of its own and keeps the signal: both are set right here."""
    before = signal.getsignal(signal.SIGINT)
    try:
        return trainer.fit()
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)


def _cause(error: BaseException) -> str:
    failures: Mapping[int, BaseException] = getattr(error, "worker_failures", {})
    for rank, failure in failures.items():
        # Ray wraps what a worker raised; the first line that is not Ray's own says what happened.
        cause = getattr(failure, "cause", None) or failure.__cause__ or failure
        message = str(cause).strip().splitlines()
        return f"worker {rank}: {message[-1] if message else type(cause).__name__}"
    return str(error).strip().splitlines()[-1]


@contextmanager
def cluster() -> Iterator[None]:
    """The Ray cluster of RAY_ADDRESS, or one on this machine for as long as it is needed.

    Raises UserError if it cannot be reached or started.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "local")
    if address == "local":
        # Nobody preempts the machine one sits at.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    try:
        ray.init(address=address, logging_level=logging.ERROR)
    except Exception as error:  # a node that does not start within Ray's 30 seconds raises just that
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"Ray at {address} cannot be used ({reason}): check RAY_ADDRESS, or try again.") from None
    try:
        yield
    finally:
        ray.shutdown()


def scaling(num_workers: int) -> ray.train.ScalingConfig:
    """One GPU a worker if the cluster has that many, else an equal share of the CPUs of one machine.

    Raises UserError if the cluster has fewer CPUs than workers.
    """
    total = ray.cluster_resources()
    if total.get("GPU", 0) >= num_workers:
        return ray.train.ScalingConfig(num_workers=num_workers, use_gpu=True)
    if total.get("CPU", 0) < num_workers:
        raise UserError(
            f"params.yaml: train.num_workers is {num_workers}: the cluster has {int(total.get('CPU', 0))} CPUs."
        )
    largest = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    share = max(1, int(min(largest, total["CPU"] // num_workers)))
    return ray.train.ScalingConfig(num_workers=num_workers, resources_per_worker={"CPU": share})


def load_trained(checkpoint: Path, encoder: Encoder, settings: TrainSettings) -> Detector:
    """The detector of a checkpoint, not calibrated yet."""
    shape = model_shape(encoder, settings)
    tensors = load_file(checkpoint / CHECKPOINT_TENSORS)
    model = INPFormer(shape)
    model.load_state_dict(part_of(tensors, "model."))
    projection = None
    if settings.channels is not None:
        projection = Projection(encoder.channels, shape.channels)
        projection.load_state_dict(part_of(tensors, "projection."))
    return Detector(encoder, projection, model, settings.losses, thresholds={})


def write_losses(history: list[dict[str, float]], file: Path) -> None:
    """The numbers of each epoch, for `dvc plots`."""
    with stage.written_whole(file) as temporary, temporary.open("w", newline="") as f:
        writer = csv.DictWriter(f, history[0].keys())
        writer.writeheader()
        writer.writerows(history)


def read_run(file: Path) -> Run:
    """The MLflow run that a pipeline run belongs to. Raises UserError if `file` is missing or damaged."""
    try:
        return Run(build(RunRecord, json.loads(file.read_text()), str(file)).run_id)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): run `dvc repro --force --single-item train`.") from None


def main() -> None:
    """Trains, and leaves the model, the record of the MLflow run and the losses."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--manifest", "--features", "--model", "--run", "--loss"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()
    settings = read_section("train", TrainSettings)
    feature_settings = read_section("features", FeatureSettings)
    manifest, index = read_manifest(args.manifest), read_index(args.features)
    key = run_key(manifest, index, settings)
    tags = {
        **provenance.tags(),
        "data.digest": manifest.digest,
        "data.folder": manifest.root.as_posix(),
        "encoder.digest": index.encoder_digest,
    }
    run = Run.open(key, f"{manifest.root.name}-{key[:6]}", flat(read_all()), tags)
    print(f"MLflow run {run.run_id} at {stage.without_password(tracking_uri())}", flush=True)
    try:
        encoder = load_encoder(index.encoder)
        store = FeatureStore(Path(feature_settings.store).resolve(), index.encoder_key)
        checkpoint = train(manifest, encoder, settings, store, run, key)
        history = json.loads((checkpoint / CHECKPOINT_PROGRESS).read_text())["history"]
        detector = load_trained(checkpoint, encoder, settings)
        with stage.written_whole(args.model) as folder:
            detector.save(folder)
        write_losses(history, args.loss)
        picture = args.loss.with_suffix(".png")
        pictures.losses(history, picture)
        run.log_file(picture, "pictures")
        with stage.written_whole(args.run) as temporary:
            temporary.write_text(json.dumps(asdict(RunRecord(run.run_id))) + "\n")
    except KeyboardInterrupt:
        run.end("KILLED")
        raise
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")
    # Only now: the outputs stand, so a later `dvc repro --force` is to train anew, not to find itself finished.
    shutil.rmtree(Path(settings.storage) / key, ignore_errors=True)


if __name__ == "__main__":
    stage.run(main)
