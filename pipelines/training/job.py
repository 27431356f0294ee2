"""How a training runs on Ray: together on workers that share each batch, apart as a task a category, or not at all."""

import signal
import sys
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

# First of ours: it silences Ray, which looks at its environment when it is imported.
from pipelines.platform.cluster import cluster, failure, gpus_a_model, scaling  # isort: skip

import ray
import ray.exceptions
import ray.train
import ray.train.torch
import torch
from tqdm import tqdm

from inpformer.encoders.encoder import Encoder
from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape
from inpformer.errors import StaleFeaturesError, UserError
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL, LearntFrom
from inpformer.methods import METHODS
from inpformer.methods.base import Model, Train
from inpformer.methods.modes import MULTI_CLASS, SEMI_SUPERVISED, SUPER_MULTI_CLASS, ZERO_SHOT
from inpformer.training.loop import LoopConfig, Progress, TrainingLoop, read_model
from inpformer.training.settings import TrainSettings
from pipelines.features.index import FeatureIndex
from pipelines.manifest.table import Manifest
from pipelines.platform.runs import Run
from pipelines.platform.weights import load_encoder
from pipelines.training.checkpoints import FINISHED, Checkpoints
from pipelines.training.features import TrainingFeatures
from pipelines.training.worker import WorkerConfig, checkpoint_name, train_category, train_worker

MOST_WORKER_FAILURES = 3
# With fewer a model is hardly better than none: 20 steps on 29 images gave an image AUROC of .66 instead of .94.
FEWEST_STEPS = 300
MOST_EPOCHS = 10**9  # that anybody is told to take
ROUNDING = 1e-9  # of a learning rate, which is not a rise

History = list[dict[str, float]]


@dataclass(frozen=True)
class Fold:
    """What shows the images of a fold, as keys of 32 bytes each: their `views`, the pictures with defects that are
    `made` of them, and those of other images that are `filled` from them.
    """

    views: bytes
    made: bytes = b""
    filled: bytes = b""


@dataclass(frozen=True)
class Job:
    """A training as the driver sees it. `anomalies` are pictures with defects, for a method that learns from them,
    `taken_up` the detector whose models it builds on, for settings that do.
    """

    manifest: Manifest
    index: FeatureIndex
    encoder: Encoder
    settings: TrainSettings
    features: TrainingFeatures
    run: Run
    checkpoints: Checkpoints
    anomalies: TrainingFeatures | None = None
    taken_up: Detector | None = None

    def loop(self, category: str | None = None, fold: Fold | None = None) -> LoopConfig:
        """The training loop over a category, or over all of them; without what shows a fold, where there is one.

        Raises UserError if there are too few images for a batch, or features are missing.
        """
        features = replace(self.features, category=category, left_out=None if fold is None else fold.views)
        views = features.open()
        views.refuse_missing()
        if (count := views.count("train")) < self.settings.batch_size:
            raise UserError(
                f"params.yaml: train.batch_size is {self.settings.batch_size}: there are only {count} "
                f"training images{f' of {category}' if category is not None else ''}, set it to at most that."
            )
        if features.kept not in (None, wanted_by(self.settings, self.encoder.shape)):
            raise StaleFeaturesError(
                f"the stored features are not what {self.settings.method} wants: compute them again."
            )
        return LoopConfig(self.settings, self.encoder.shape, features, self._anomalies(category, fold))

    def _anomalies(self, category: str | None, fold: Fold | None) -> TrainingFeatures | None:
        if not self.settings.kind.anomalies:
            return None
        if self.anomalies is None:
            raise StaleFeaturesError(
                f"the features hold no pictures with defects, which {self.settings.method} learns from: compute them "
                "again."
            )
        anomalies = replace(self.anomalies, category=category)
        if fold is not None:
            anomalies = replace(anomalies, left_out=fold.made, dropped=fold.filled)
        anomalies.open().refuse_missing()
        return anomalies

    def begin(self, loop: LoopConfig, checkpoints: Checkpoints, category: str) -> str | None:
        """The checkpoint to go on from: of an earlier call, or, for a training that builds on another, one that holds
        what is taken up. None to begin with nothing.
        """
        if (reached := checkpoints.newest()) is not None or self.taken_up is None:
            return reached
        first = TrainingLoop(loop, torch.device("cpu"))
        first.model.take_up(self.taken_up.models[category])
        name = checkpoint_name(first)
        with checkpoints.saving(name) as folder:
            first.save(folder)
        return name


def wanted_by(settings: TrainSettings, shape: EncoderShape) -> Wants:
    """What the method reads of the encoder's levels.

    Raises UserError, with the key in params.yaml, where its settings do not suit the encoder.
    """
    try:
        return settings.kind.make(settings.own, shape).wants(settings.own, shape)
    except UserError as error:
        raise UserError(f"params.yaml: train.{settings.method}.{error}") from None


def warn_if_short(loop: LoopConfig, category: str | None = None) -> None:
    """Says, before a training starts, that it takes too few steps to be worth much, and how many epochs would do."""
    images, size = loop.features.open().count("train"), loop.settings.batch_size
    of = f" of {category}" if category is not None else ""
    for phase in loop.model().phases():
        if not isinstance(phase, Train):
            continue
        phase = phase.lasting(images // size)
        if phase.epochs < (epochs := fewest_epochs(phase, images // size)):
            print(
                f"warning: {phase.epochs} epochs of {images} images{of} in batches of {size} are "
                f"{images // size * phase.epochs} steps, too few to learn from: {epochs} epochs would do, as a model "
                f"takes {FEWEST_STEPS} steps and all of its warm-up (train.{loop.settings.method}.epochs).",
                file=sys.stderr,
                flush=True,
            )


def fewest_epochs(phase: Train, steps: int) -> int:
    """How many epochs, each of so many steps, are worth it: FEWEST_STEPS are taken, and the learning rate rises no more
    at the end.
    """

    def is_enough(epochs: int) -> bool:
        total = epochs * steps
        return total >= FEWEST_STEPS and phase.rate(total - 1, total) <= (1 + ROUNDING) * phase.rate(total - 2, total)

    return bisect_left(range(MOST_EPOCHS), True, lo=1, key=is_enough)


def train_together(job: Job) -> tuple[Model, History]:
    """One model for all categories, on Ray Train workers.

    Raises UserError if the workers keep failing, and for what `Job.loop` refuses.
    """
    loop, checkpoints = job.loop(), job.checkpoints
    warn_if_short(loop)
    config = WorkerConfig(loop, checkpoints, job.begin(loop, checkpoints, ALL), job.run.run_id, job.run.uri)
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
    model, progress = read_checkpoint(checkpoints, last, loop)
    return model, progress.history


def _fit(trainer: ray.train.torch.TorchTrainer) -> ray.train.Result:
    """Runs the trainer. Ray answers Ctrl-C with an exit of its own and keeps the signal: both are set right here."""
    before = signal.getsignal(signal.SIGINT)
    try:
        return trainer.fit()
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)


def train_apart(job: Job) -> tuple[dict[str, Model], dict[str, History]]:
    """One model a category, as parallel Ray tasks.

    Raises UserError if a task keeps failing, and for what `Job.loop` refuses.
    """
    configs = {name: job.loop(name) for name in job.manifest.categories}
    for name, config in configs.items():
        warn_if_short(config, name)
    return train_tasks(job, configs)


def train_tasks(job: Job, configs: Mapping[str, LoopConfig]) -> tuple[dict[str, Model], dict[str, History]]:
    """Each of these trainings, by name, as parallel Ray tasks; those that an interrupted run finished are not repeated.

    Raises UserError if a task keeps failing.
    """
    places = {name: job.checkpoints.within(name) for name in configs}
    for name, place in places.items():
        if job.taken_up is not None and not place.whole(FINISHED):
            job.begin(configs[name], place, name)
    with tqdm(total=len(configs), desc="models", disable=None) as bar:
        for _ in run_tasks(configs, places):
            bar.update()
    trained = {name: read_checkpoint(places[name], FINISHED, config) for name, config in configs.items()}
    histories = {name: progress.history for name, (_, progress) in trained.items()}
    return {name: model for name, (model, _) in trained.items()}, histories


def run_tasks(configs: Mapping[str, LoopConfig], places: Mapping[str, Checkpoints]) -> Iterator[str]:
    """Trains these, by name, as parallel Ray tasks, each to its checkpoint FINISHED in its place; yields the names of
    those that have come there, first of those that an interrupted run finished.

    Raises UserError if a task keeps failing.
    """
    finished = [name for name in configs if places[name].whole(FINISHED)]
    yield from finished
    if len(finished) == len(configs):
        return
    with cluster():
        task = ray.remote(train_category).options(max_retries=MOST_WORKER_FAILURES, num_gpus=gpus_a_model())
        pending = {
            task.remote(config, name, places[name]): name for name, config in configs.items() if name not in finished
        }
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            name = pending.pop(done)
            try:
                ray.get(done)
            except ray.exceptions.RayError as error:
                raise failure(f"training of {name}", error) from None
            yield name


def read_checkpoint(checkpoints: Checkpoints, name: str, config: LoopConfig) -> tuple[Model, Progress]:
    """The model that a training left, and how it came there."""
    with checkpoints.fetched(name) as folder:
        return read_model(config, folder, f"{checkpoints.address}/{name}")


def build_on(folder: Path, encoder: Encoder, settings: TrainSettings, learnt_from: LearntFrom) -> Detector:
    """A detector whose models a training takes up (see `Method.builds_on`).

    Raises UserError if it is of another method, other features or another setting, or has not learnt these categories.
    """
    other, wanted = Detector.load(folder, load=load_encoder), settings.kind.builds_on(settings.own)
    if other.method.name != wanted:
        raise UserError(f"{folder} is of {other.method.name}: {settings.method} builds on one of {wanted}.")
    _refuse_other_features(folder, other, encoder)
    # Real defects teach the head alone.
    together = (learnt_from.setting.replace(SEMI_SUPERVISED, kind) for kind in (MULTI_CLASS, SUPER_MULTI_CLASS))
    if other.learnt_from.setting not in together:
        raise UserError(
            f"{folder} is {other.learnt_from.setting}, this training {learnt_from.setting}: build on a detector of the "
            "same setting."
        )
    if strange := sorted(set(learnt_from.categories) - set(other.learnt_from.categories)):
        raise UserError(f"{folder} has not learnt {strange[0]}: build on a detector that was trained on the same data.")
    return other


def _refuse_other_features(folder: Path, other: Detector, encoder: Encoder) -> None:
    if other.folds:
        raise UserError(f"{folder} has a model a fold: train.weights takes a detector of one, or one a category.")
    if other.encoder.key != encoder.key:
        raise UserError(
            f"{folder} was trained on features of another encoder or input size: set features.encoder as in its "
            "detector.json."
        )


def borrow(folder: Path, encoder: Encoder, categories: Sequence[str], zero_shot: bool) -> Detector:
    """A detector whose models are taken as they are, to judge these categories; zero-shot, if it is asked to.

    Raises UserError if it needs other features, or, zero-shot, if its method cannot or it was trained on what it is to
    judge.
    """
    other = Detector.load(folder, load=load_encoder)
    _refuse_other_features(folder, other, encoder)
    if zero_shot:
        if ZERO_SHOT not in other.method.modes:
            having = ", ".join(name for name, method in METHODS.items() if ZERO_SHOT in method.modes)
            raise UserError(f"{folder} is of {other.method.name}, which has no zero-shot: take one of {having}.")
        if ALL not in other.models or other.learnt_from.setting == ZERO_SHOT:
            raise UserError(
                f"{folder} is {other.learnt_from.setting}: zero-shot takes one model trained on all its data."
            )
        if seen := sorted(set(categories) & set(other.learnt_from.categories)):
            raise UserError(f"{folder} was trained on {seen[0]}: judging it is no zero-shot, use another setting.")
        other.learnt_from = replace(other.learnt_from, setting=ZERO_SHOT)
    return other
