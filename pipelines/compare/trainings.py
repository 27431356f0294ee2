"""Each method with each seed: planned, trained on Ray where that is missing, and kept."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL
from inpformer.methods.modes import SINGLE_CLASS
from inpformer.training.loop import LoopConfig, Progress
from inpformer.training.settings import TrainSettings
from pipelines.compare.data import Data
from pipelines.platform import files
from pipelines.platform.runs import Run
from pipelines.train.fit import mean_history, run_key, seen_images, untaught
from pipelines.training.checkpoints import FINISHED, Checkpoints, open_checkpoints
from pipelines.training.features import training_anomalies, training_features
from pipelines.training.job import Job, read_checkpoint, run_tasks, warn_if_short

MODEL, RECORD = "model", "training.json"


@dataclass(frozen=True)
class Training:
    """A method with a seed. `key` names it, equal for equal code, data and settings; `folder` is where it is kept once
    it is finished: the detector, without thresholds, and a record of how it was trained.
    """

    settings: TrainSettings
    key: str
    folder: Path

    @property
    def name(self) -> str:
        """For people, and in MLflow."""
        return f"{self.settings.method}, seed {self.settings.seed}"

    @property
    def finished(self) -> bool:
        """Whether it is kept."""
        return self.folder.is_dir()

    @property
    def model(self) -> Path:
        """The detector's folder."""
        return self.folder / MODEL

    @property
    def record(self) -> dict[str, Any]:
        """`seconds` of work, without interruptions, and the `history` by epoch. Raises UserError if it is damaged."""
        try:
            found: dict[str, Any] = json.loads((self.folder / RECORD).read_text())
            return {"seconds": float(found["seconds"]), "history": list(found["history"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.folder} is damaged ({error}): remove it to train {self.name} again.") from None


@dataclass(frozen=True)
class Begun:
    """A training that is not finished: its loops by category, ALL for one of all, and where each leaves checkpoints."""

    training: Training
    job: Job
    loops: dict[str, LoopConfig]
    places: dict[str, Checkpoints]

    def name(self, category: str) -> str:
        """Of a loop, for people."""
        return f"{self.training.name}, {category}" if category else self.training.name


def plan(settings: Sequence[TrainSettings], data: Data, keep: Path) -> list[Training]:
    """All trainings, and where each is kept."""
    keys = [run_key(data.manifest, data.index_for(one), one, "") for one in settings]
    return [Training(one, key, keep / "trained" / key) for one, key in zip(settings, keys, strict=True)]


def begin(missing: Sequence[Training], data: Data, run: Run) -> list[Begun]:
    """Raises UserError where one of them cannot be trained on these features, before any is."""
    begun, warned = [], set()
    for one in missing:
        index, settings = data.index_for(one.settings), one.settings
        place = open_checkpoints(settings.storage, f"compare-{one.key}")
        features, anomalies = training_features(data.stored, index), training_anomalies(data.stored, index)
        job = Job(data.manifest, index, data.encoder, settings, features, run, place, anomalies)
        names = data.learnt_from.categories if settings.setting == SINGLE_CLASS else (ALL,)
        loops = {name: job.loop(name or None) for name in names} if settings.kind.learns else {}
        begun.append(Begun(one, job, loops, {name: place.within(name) for name in loops}))
        for name, loop in loops.items():
            if (settings.method, name) not in warned:
                warn_if_short(loop, name or None)
                warned.add((settings.method, name))
    return begun


def train(begun: Sequence[Begun], data: Data) -> Iterator[Training]:
    """Trains all side by side on Ray, and keeps each as it ends; yields those that are kept. Nothing is trained for
    methods that learn nothing.

    Raises UserError if one of them keeps failing.
    """
    loops = {one.name(category): loop for one in begun for category, loop in one.loops.items()}
    places = {one.name(category): place for one in begun for category, place in one.places.items()}
    owners = {one.name(category): one for one in begun for category in one.loops}
    left = {one.training.key: len(one.loops) for one in begun}
    for one in begun:
        if not one.loops:
            yield _kept(one, untaught(one.job, data.learnt_from), [])
    for name in run_tasks(loops, places):
        one = owners[name]
        left[one.training.key] -= 1
        if not left[one.training.key]:
            kept = _kept(one, *_trained(one, data))
            one.job.checkpoints.remove()
            yield kept


def _trained(one: Begun, data: Data) -> tuple[Detector, list[Progress]]:
    found = {name: read_checkpoint(one.places[name], FINISHED, loop) for name, loop in one.loops.items()}
    models, settings = {name: model for name, (model, _) in found.items()}, one.job.settings
    made = Detector(data.encoder, settings.kind, settings.own, models, data.learnt_from, {}, data.index.tiling)
    made.seen = seen_images(data.manifest, None)
    return made, [progress for _, progress in found.values()]


def _kept(one: Begun, detector: Detector, progress: Sequence[Progress]) -> Training:
    history = mean_history([own.history for own in progress])
    record = {"seconds": sum(own.seconds for own in progress), "history": history}
    with files.written_whole(one.training.folder) as folder:
        folder.mkdir()
        detector.save(folder / MODEL)
        (folder / RECORD).write_text(json.dumps({"training": one.training.name, **record}))
    return one.training
