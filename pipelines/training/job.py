"""How a training runs on Ray: together on workers that share each batch, apart as a task a category, or not at all."""

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

# First of ours: it silences Ray, which looks at its environment when it is imported.
from pipelines.platform.cluster import cluster, failure, gpus_a_model, scaling  # isort: skip

import ray
import ray.exceptions
import ray.train
import ray.train.torch
from safetensors.torch import load_file
from tqdm import tqdm

from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from inpformer.judging.trained import ALL, Trained
from inpformer.methods.inp_former.network import ModelShape
from inpformer.methods.setting import ZERO_SHOT
from inpformer.training.loop import CHECKPOINT_PROGRESS, CHECKPOINT_TENSORS, LoopConfig
from inpformer.training.settings import TrainSettings
from pipelines.features.index import FeatureIndex
from pipelines.manifest.table import Manifest
from pipelines.platform.runs import Run
from pipelines.platform.weights import load_encoder
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.features import TrainingFeatures
from pipelines.training.worker import WorkerConfig, train_category, train_worker

# A head of the decoder sees this many channels of a projected encoder; a ViT brings its own number of heads.
CHANNELS_PER_HEAD = 32
MOST_WORKER_FAILURES = 3

History = list[dict[str, float]]


@dataclass(frozen=True)
class Job:
    """A training as the driver sees it."""

    manifest: Manifest
    index: FeatureIndex
    encoder: Encoder
    settings: TrainSettings
    features: TrainingFeatures
    run: Run
    checkpoints: Checkpoints

    def loop(self, category: str | None = None) -> LoopConfig:
        """The training loop over a category, or over all of them.

        Raises UserError if there are too few images for a batch, or features are missing.
        """
        features = replace(self.features, category=category)
        views = features.open()
        views.refuse_missing()
        if (count := views.count("train")) < self.settings.batch_size:
            raise UserError(
                f"params.yaml: train.batch_size is {self.settings.batch_size}: there are only {count} "
                f"training images{f' of {category}' if category is not None else ''}, set it to at most that."
            )
        shape = model_shape(self.encoder, self.settings)
        return LoopConfig(self.settings, shape, self.encoder.channels, features)


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


def train_together(job: Job) -> tuple[Trained, History]:
    """One model for all categories, on Ray Train workers.

    Raises UserError if the workers keep failing, and for what `Job.loop` refuses.
    """
    loop, checkpoints = job.loop(), job.checkpoints
    config = WorkerConfig(loop, checkpoints, checkpoints.newest(), job.run.run_id, job.run.uri)
    with cluster():
        trainer = ray.train.torch.TorchTrainer(
            train_worker,
            train_loop_config={"worker": config},
            scaling_config=scaling(job.settings.num_workers),
            run_config=ray.train.RunConfig(
                name=checkpoints.key,
                storage_path=checkpoints.root,
                storage_filesystem=checkpoints.filesystem,
                failure_config=ray.train.FailureConfig(max_failures=MOST_WORKER_FAILURES),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
                # The epoch lines are enough; what fails is said in one sentence below, and Ray's files have it all.
                logging_config=ray.train.LoggingConfig(log_level="CRITICAL"),  # type: ignore[call-arg]
            ),
        )
        try:
            result = _fit(trainer)
        except (ray.train.TrainingFailedError, ray.exceptions.RayError, OSError) as error:
            raise failure("training", error) from None
    last = config.resume if result.checkpoint is None else result.checkpoint.path.rpartition("/")[2]
    if last is None:
        raise UserError(f"training left no checkpoint in {checkpoints.address}: remove that and run again.")
    return read_checkpoint(checkpoints, last, loop)


def _fit(trainer: ray.train.torch.TorchTrainer) -> ray.train.Result:
    """Runs the trainer. Ray answers Ctrl-C with an exit of its own and keeps the signal: both are set right here."""
    before = signal.getsignal(signal.SIGINT)
    try:
        return trainer.fit()
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)


def train_apart(job: Job) -> tuple[dict[str, Trained], dict[str, History]]:
    """One model a category, as parallel Ray tasks; categories that an interrupted run finished are not repeated.

    Raises UserError if a task keeps failing, and for what `Job.loop` refuses.
    """
    configs = {name: job.loop(name) for name in job.manifest.categories}
    places = {name: name.replace("/", "--") for name in configs}
    with cluster():
        task = ray.remote(train_category).options(max_retries=MOST_WORKER_FAILURES, num_gpus=gpus_a_model())
        pending = {
            task.remote(config, name, job.checkpoints, places[name]): name
            for name, config in configs.items()
            if not job.checkpoints.whole(places[name])
        }
        with tqdm(total=len(configs), initial=len(configs) - len(pending), desc="models", disable=None) as progress:
            while pending:
                (finished,), _ = ray.wait(list(pending), num_returns=1)
                name = pending.pop(finished)
                try:
                    ray.get(finished)
                except ray.exceptions.RayError as error:
                    raise failure(f"training of {name}", error) from None
                progress.update()
    trained = {name: read_checkpoint(job.checkpoints, places[name], config) for name, config in configs.items()}
    return {name: model for name, (model, _) in trained.items()}, {name: rows for name, (_, rows) in trained.items()}


def read_checkpoint(checkpoints: Checkpoints, name: str, config: LoopConfig) -> tuple[Trained, History]:
    """The model and the history that a training left."""
    with checkpoints.fetched(name) as folder:
        tensors = {k: v for k, v in load_file(folder / CHECKPOINT_TENSORS).items() if not k.startswith("optimizer.")}
        trained = Trained.load_tensors(tensors, config.encoder_channels, config.shape, f"{checkpoints.address}/{name}")
        history: History = json.loads((folder / CHECKPOINT_PROGRESS).read_text())["history"]
    return trained, history


def borrow(folder: Path, encoder: Encoder, categories: Sequence[str], zero_shot: bool) -> Detector:
    """A detector whose models are taken as they are, to judge these categories; zero-shot, if it is asked to.

    Raises UserError if it needs other features, or was trained on what it is to judge zero-shot.
    """
    other = Detector.load(folder, load=load_encoder)
    if other.encoder.key != encoder.key:
        raise UserError(
            f"{folder} was trained on features of another encoder or input size: set features.encoder as in its "
            "detector.json."
        )
    if zero_shot:
        if ALL not in other.models or other.training.setting == ZERO_SHOT:
            raise UserError(f"{folder} is {other.training.setting}: zero-shot takes one model trained on all its data.")
        if seen := sorted(set(categories) & set(other.training.categories)):
            raise UserError(f"{folder} was trained on {seen[0]}: judging it is no zero-shot, use another setting.")
        other.training = replace(other.training, setting=ZERO_SHOT)
    return other
