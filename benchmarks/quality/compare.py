"""Methods on one data set: each is trained on its good images, calibrated on held-out ones and judged."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from benchmarks.plus.compare import few_defects
from benchmarks.quality import pictures
from benchmarks.quality.patchcore import PatchCore
from benchmarks.quality.pictures import Judged
from benchmarks.stored import Stored
from inpformer.config import build
from inpformer.devices import best_device
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.errors import UserError
from inpformer.features.objects import Folder
from inpformer.features.store import FeatureStore
from inpformer.images.layouts.sample import GOOD
from inpformer.judging.calibration import Threshold, calibrate
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods import find_method
from inpformer.metrics.image import image_metrics
from inpformer.metrics.pixel import pixel_metrics
from inpformer.streams import chunks
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import Manifest

BATCH = 16
PATCHCORE, PATCHCORE_STRIDES = "patchcore", (8, 16)
PROMISE = CalibrationSettings(false_alarm_rate=0.05)
JUDGED = {"pseudo": pictures.spoilt, "real": pictures.defective, "test": pictures.tested}
COLUMNS = ("image AUROC", "P-AP", "AUPRO", "missed")
Judgement = tuple[Tensor, Tensor]  # maps [n, 256, 256] and scores [n]


@dataclass(frozen=True)
class Task:
    """What all methods are given."""

    encoder: Encoder
    train: Stored
    held_out: Judged
    judged: Judged


def run(
    data: Path,
    methods: Sequence[str],
    folder: Path,
    settings: EncoderSettings,
    seeds: Sequence[int] = (1,),
    part: str | None = None,
    judged: str = "test",
    share: int = 1,
) -> None:
    """Encodes what the store in `folder` lacks; trains each method once a seed on one of `share` training images,
    judges, and prints a row each. `judged` is a key of JUDGED.
    """
    cases = {text: None if text == PATCHCORE else read_method(text) for text in methods}
    if PATCHCORE in cases and not set(PATCHCORE_STRIDES) <= set(settings.levels or ()):
        raise UserError("--levels: patchcore takes the strides 8 and 16.")
    encoder = load_encoder(settings).to(best_device())
    manifest = read_manifest(data, part, share)
    store = FeatureStore(Folder(folder), encoder.key)
    task = Task(
        encoder,
        pictures.training(manifest, encoder, store),
        pictures.held_out(manifest, encoder, store),
        JUDGED[judged](manifest, encoder, store),
    )
    names = ["method", *COLUMNS, "training, s", "judging, ms an image"]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for text, case in cases.items():
        rows = [row(task, text, case and replace(case, seed=seed), seed) for seed in seeds]
        print(f"| {text} | {' | '.join(summary(rows))} |", flush=True)


def read_manifest(data: Path, part: str | None, share: int) -> Manifest:
    """Of the pictures in `data`, without ten defective ones a category, with one of `share` training parts."""
    return few_defects(build_manifest(data, ManifestSettings(str(data), part=part)), share)


def read_method(text: str) -> TrainSettings:
    """A method's name, and settings after a colon: "inp_former:epochs=5,memory={grid: 32, tokens: 4096}".

    Raises UserError for an unknown name or key and for an impossible value.
    """
    name, _, rest = text.partition(":")
    pairs = re.split(r",(?![^{\[]*[}\]])", rest)  # not within the braces of a table or list
    values: dict[str, Any] = dict(pair.partition("=")[::2] for pair in pairs if pair)
    try:
        values = {key: yaml.safe_load(value) for key, value in values.items()}
    except yaml.YAMLError:
        raise UserError(
            f"--methods {text}: settings are written as in params.yaml, e.g. nearest:neighbours=3."
        ) from None
    own = build(find_method(name).settings, values, f"--methods {name}")
    return TrainSettings(method=name, batch_size=BATCH, own=own)


def row(task: Task, name: str, settings: TrainSettings | None, seed: int) -> list[float]:
    """One training: the columns, then seconds of training and milliseconds an image of judging."""
    began = time.perf_counter()
    model = fit_patchcore(task, seed) if settings is None else train(settings, task, name)
    trained = time.perf_counter()
    (_, held_out), (maps, scores) = (judge(model, task.encoder, which) for which in (task.held_out, task.judged))
    count = len(task.held_out.numbers) + len(task.judged.numbers)
    judging = 1e3 * (time.perf_counter() - trained) / count
    found = measures(task.judged, maps, scores, thresholds(task.held_out, held_out))
    return [*found, trained - began, judging]


def fit_patchcore(task: Task, seed: int) -> PatchCore:
    """The memory of the training images."""
    views = task.train.open()
    order = chunks(iter(range(views.count("train"))), BATCH)
    return PatchCore((patchcore_levels(task.encoder, views.read("train", numbers)) for numbers in order), seed)


def patchcore_levels(encoder: Encoder, levels: Sequence[Tensor]) -> list[Tensor]:
    """Those at PatchCore's strides."""
    strides = encoder.settings.levels or ()
    return [levels[strides.index(stride)] for stride in PATCHCORE_STRIDES]


def train(settings: TrainSettings, task: Task, name: str) -> TrainingLoop:
    """The loop after its last phase."""
    loop = TrainingLoop(LoopConfig(settings, task.encoder.shape, task.train), task.encoder.device)
    with tqdm(desc=f"{name}, seed {settings.seed}", disable=None) as progress:
        while not loop.done:
            loop.advance()
            progress.update()
    loop.model.eval()
    return loop


@torch.inference_mode()
def judge(model: TrainingLoop | PatchCore, encoder: Encoder, judged: Judged) -> Judgement:
    """Anomaly maps and image scores of the pictures, in their order."""
    views = judged.source.open()
    parts = []
    for numbers in chunks(iter(judged.numbers), BATCH):
        levels = [level.to(encoder.device) for level in views.read("train", numbers)]
        if isinstance(model, PatchCore):
            maps, scores = model.judge(patchcore_levels(encoder, levels), encoder.transform.crop)
        else:
            maps = model.model.maps(model.wants.of(levels), encoder.transform.crop, zero_shot=False)
            scores = model.model.scores(maps)
        parts.append((maps.cpu(), scores.cpu()))
    maps, scores = (torch.cat(column) for column in zip(*parts, strict=True))
    return maps, scores


def thresholds(held_out: Judged, scores: Tensor) -> dict[str, Threshold]:
    """By category, from the worst image of each held-out part."""
    worst = {}
    for category in np.unique(held_out.categories):
        mine = held_out.categories == category
        parts, values = held_out.parts[mine], scores.numpy()[mine]
        worst[str(category)] = [float(values[parts == part].max()) for part in np.unique(parts)]
    return calibrate(worst, PROMISE)


def measures(judged: Judged, maps: Tensor, scores: Tensor, limits: dict[str, Threshold]) -> NDArray[np.float64]:
    """The columns, each the mean over the categories: [4]."""
    rows = []
    for category, limit in limits.items():
        mine = judged.categories == category
        defective, masks = judged.defects[mine] != GOOD, judged.masks[mine]
        own = scores.numpy()[mine]
        # A defective image whose mask is empty says nothing about pixels.
        usable = ~defective | masks.any(axis=(1, 2))
        pixels = pixel_metrics(maps.numpy()[mine][usable], masks[usable])
        missed = float((own[defective] <= limit.threshold).mean())
        rows.append([image_metrics(own, defective).auroc, pixels.ap, pixels.aupro, missed])
    return np.mean(rows, axis=0)


def summary(rows: Sequence[Sequence[float]]) -> list[str]:
    """Mean and standard deviation over the seeds of each column, the mean alone of times."""
    mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=min(1, len(rows) - 1))
    shown = [f"{m:.3f} ±{s:.3f}" if len(rows) > 1 else f"{m:.3f}" for m, s in zip(mean, spread, strict=True)]
    return [*shown[: len(COLUMNS)], *(f"{m:.0f}" for m in mean[len(COLUMNS) :])]
