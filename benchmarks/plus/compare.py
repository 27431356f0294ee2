"""Trains each case from one feature store and judges it on one set of test images."""

import json
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.judging.calibration import Threshold
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods.base import Model
from inpformer.methods.inp_former_pp.model import InpFormerPlus
from inpformer.methods.modes import MULTI_CLASS, SEMI_SUPERVISED
from inpformer.metrics.image import image_metrics
from inpformer.metrics.pixel import pixel_metrics
from inpformer.streams import chunks
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings
from pipelines.calibrate.held_out import GoodImage, thresholds
from pipelines.features.anomalies import anomaly_plan
from pipelines.features.index import compute_features
from pipelines.features.settings import FeatureSettings
from pipelines.manifest.build import build_manifest, read_mask
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import Manifest, Row
from pipelines.training.features import training_anomalies, training_features

BATCH = 16
REAL_DEFECTS = 10  # a category
FALSE_ALARMS = 0.05
INP, PLUS = "inp_former", "inp_former_pp"
MEASURES = ("miss rate", "false alarms", "image AUROC", "P-AP", "AUPRO")


@dataclass(frozen=True)
class Training:
    """A training: its method, the weight of the squared error's branch, its setting."""

    method: str
    squared: float = 0.0
    setting: str = MULTI_CLASS


# Each training, and the rows that are judged by it: with these weights of the head in the map, None without it. The
# head does not change the reconstruction, so the rows of one training are of one network.
TRAININGS: dict[Training, dict[str, float | None]] = {
    Training("nearest"): {"nearest": None},
    Training(INP): {"INP-Former": None},
    Training(PLUS): {"+ soft coherence": None, "+ residual head, weight .1": 0.1, "+ residual head, weight 1": 1.0},
    Training(PLUS, setting=SEMI_SUPERVISED): {"+ 10 real defects, weight .1": 0.1, "+ 10 real defects, weight 1": 1.0},
    Training(PLUS, squared=1.0): {"+ two-branch mining": None, "as published: + residual head, weight 1": 1.0},
}
ROWS = [name for names in TRAININGS.values() for name in names]


@dataclass(frozen=True)
class Encoded:
    """Some images as levels, each [n, N, C] float16."""

    rows: Sequence[Row]
    levels: Sequence[Tensor]


def run(args: Namespace) -> None:
    """Trains what is missing of the cases and prints the table."""
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    results = args.folder / "results.jsonl"
    encoder = load_encoder(EncoderSettings())
    manifest = few_defects(build_manifest(args.data, ManifestSettings(str(args.data), part=args.part)), args.share)
    held_out = encode(manifest, encoder, list(manifest.held_out))
    test = encode(manifest, encoder, manifest.split("test"))
    masks = np.stack([encoder.transform.mask(read_mask(manifest.root, row)) for row in test.rows])
    for seed in args.seeds:
        for training, rows in TRAININGS.items():
            known = {(line["case"], line["seed"]) for line in read(results)}
            wanted = {name: weight for name, weight in rows.items() if (name, seed) not in known}
            if not wanted:
                continue
            model, settings = train(training, seed, manifest, encoder, args)
            for name, weight in wanted.items():
                weigh(model, weight)
                line = {"case": name, "seed": seed, **measure(model, settings, encoder, held_out, test, masks)}
                with results.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(line, flush=True)
    print(table(read(results)))


def few_defects(manifest: Manifest, share: int) -> Manifest:
    """The manifest with ten defective test images a category in train, without the other test images of their parts,
    and with one of `share` good training parts, chosen by content.
    """
    rows = list(manifest.rows)
    taught: list[Row] = []
    for category in manifest.categories:
        mine = [row for row in rows if row.category == category and row.split == "test" and row.mask_pixels]
        taught += sorted(mine, key=lambda row: row.sha256)[:REAL_DEFECTS]
    paths, parts = {row.path for row in taught}, {(row.category, row.part) for row in taught if row.part}
    kept = []
    for row in rows:
        if row.path in paths:
            kept.append(replace(row, split="train"))
        elif (row.split == "test" and (row.category, row.part) in parts) or (
            row.split == "train" and int(row.sha256[:8], 16) % share
        ):
            continue
        else:
            kept.append(row)
    return replace(manifest, rows=kept, digest=f"{manifest.digest} with {len(taught)} defects and 1/{share}")


def encode(manifest: Manifest, encoder: Encoder, rows: list[Row]) -> Encoded:
    """All levels of some images, whole."""
    parts = []
    for batch in chunks(iter(tqdm(rows, "encoding", disable=None)), BATCH):
        levels = encoder.encode([encoder.transform.open(manifest.root / row.path) for row in batch])
        parts.append([level.to(torch.float16) for level in levels])
    return Encoded(rows, [torch.cat(level) for level in zip(*parts, strict=True)])


def train(
    training: Training, seed: int, manifest: Manifest, encoder: Encoder, args: Namespace
) -> tuple[Model, TrainSettings]:
    """The model, and its settings."""
    stored = FeatureSettings(encoder.settings, store=str(args.folder / "store"))
    plan = anomaly_plan(manifest, stored, training.setting == SEMI_SUPERVISED) if training.method == PLUS else None
    index = compute_features(manifest, encoder, stored, None, plan)
    features = training_features(stored, index)
    steps = features.open().count("train") // BATCH
    settings = TrainSettings(method=training.method, setting=training.setting, seed=seed, batch_size=BATCH)
    own = settings.own
    if training.method != "nearest":
        own = replace(own, epochs=-(-args.steps // steps))
    if training.method == PLUS:
        own = replace(own, losses=replace(own.losses, squared_weight=training.squared))
    settings = replace(settings, own=own)
    loop = TrainingLoop(
        LoopConfig(settings, encoder.shape, features, training_anomalies(stored, index)), torch.device("cpu")
    )
    with tqdm(desc=training.method, disable=None) as progress:
        while not loop.done:
            loop.advance()
            progress.update()
    return loop.model.eval(), settings


def weigh(model: Model, weight: float | None) -> None:
    """Lets the head count so much in the map, or not at all."""
    if isinstance(model, InpFormerPlus):
        s = model.settings
        losses = replace(s.losses, residual_weight=float(weight is not None))
        model.settings = replace(s, losses=losses, head=replace(s.head, weight=weight or 1.0))


@torch.inference_mode()
def judge(model: Model, settings: TrainSettings, encoder: Encoder, images: Encoded) -> tuple[Tensor, Tensor]:
    """Maps [n, 256, 256] and scores [n]."""
    wants, maps = model.wants(settings.own, encoder.shape), []
    for start in range(0, len(images.rows), BATCH):
        groups = wants.of([level[start : start + BATCH].float() for level in images.levels])
        maps.append(model.maps(groups, encoder.transform.crop, zero_shot=False))
    together = torch.cat(maps)
    return together, model.scores(together)


def measure(
    model: Model,
    settings: TrainSettings,
    encoder: Encoder,
    held_out: Encoded,
    test: Encoded,
    masks: NDArray[np.bool_],
) -> dict[str, Any]:
    """The measures, means over the categories, and the image AUROC by kind of defect."""
    _, good = judge(model, settings, encoder, held_out)
    maps, scores = (one.numpy() for one in judge(model, settings, encoder, test))
    images = [GoodImage(Path(row.path), row.category, row.sha256, row.part) for row in held_out.rows]
    limits = thresholds(images, good.tolist(), CalibrationSettings(FALSE_ALARMS), "checked")
    found = [of_category(category, limit, test.rows, scores, maps, masks) for category, limit in limits.items()]
    means: dict[str, Any] = {name: fmean(one[name] for one in found) for name in found[0]}
    return means | {"kinds": by_kind(test.rows, scores)}


def by_kind(rows: Sequence[Row], scores: NDArray[np.float32]) -> dict[str, float]:
    """The image AUROC of each kind of defect against its category's good images."""
    found = {}
    for category, defect in sorted({(row.category, row.defect) for row in rows if row.label}):
        mine = np.array([row.category == category and (not row.label or row.defect == defect) for row in rows])
        labels = np.array([row.label > 0 for row in rows])
        found[f"{category}/{defect}"] = image_metrics(scores[mine], labels[mine]).auroc
    return found


def of_category(
    category: str,
    limit: Threshold,
    rows: Sequence[Row],
    scores: NDArray[np.float32],
    maps: NDArray[np.float32],
    masks: NDArray[np.bool_],
) -> dict[str, float]:
    """One category's measures, and the rate that is promised of it."""
    mine = np.array([row.category == category for row in rows])
    labels = np.array([row.label > 0 for row in rows])
    usable = mine & (~labels | masks.any(axis=(1, 2)))
    pixels = pixel_metrics(maps[usable], masks[usable])
    fails = scores > limit.threshold
    values = (
        1 - fails[mine & labels].mean(),
        fails[mine & ~labels].mean(),
        image_metrics(scores[mine], labels[mine]).auroc,
        pixels.ap,
        pixels.aupro,
    )
    return {**dict(zip(MEASURES, map(float, values), strict=True)), "promised": limit.false_alarm_rate}


def read(file: Path) -> list[dict[str, Any]]:
    """The lines so far."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Mean and standard deviation over the seeds, a row a case."""
    by_case: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        by_case[line["case"]].append(line)

    def rows() -> Iterator[str]:
        yield f"| case | seeds | {' | '.join(MEASURES)} |"
        yield "|---" * (len(MEASURES) + 2) + "|"
        for name in ROWS:
            if mine := by_case.get(name):
                cells = [_spread([line[measure] for line in mine]) for measure in MEASURES]
                yield f"| {name} | {len(mine)} | {' | '.join(cells)} |"

    promised = sorted({round(line["promised"], 4) for line in lines})
    return "\n".join([*rows(), "", f"promised false alarms at most: {', '.join(map(str, promised))}"])


def _spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{fmean(values):.3f}"
