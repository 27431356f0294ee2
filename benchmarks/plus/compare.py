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
from inpformer.images.transform import read_image
from inpformer.judging.calibration import Threshold
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods.base import Model
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
# Each step of the way from INP-Former to INP-Former++: method, what of its losses differs, setting.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "nearest": ("nearest", {}, MULTI_CLASS),
    "INP-Former": (INP, {}, MULTI_CLASS),
    "+ soft coherence": (PLUS, {"squared_weight": 0.0, "residual_weight": 0.0}, MULTI_CLASS),
    "+ two-branch mining": (PLUS, {"residual_weight": 0.0}, MULTI_CLASS),
    "+ residual head": (PLUS, {}, MULTI_CLASS),
    "+ 10 real defects": (PLUS, {}, SEMI_SUPERVISED),
}
MEASURES = ("miss rate", "false alarms", "image AUROC", "P-AP", "AUPRO")


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
        for name in args.cases or CASES:
            if (name, seed) in {(line["case"], line["seed"]) for line in read(results)}:
                continue
            model, settings = train(name, seed, manifest, encoder, args)
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
        levels = encoder.encode([read_image(manifest.root / row.path) for row in batch])
        parts.append([level.to(torch.float16) for level in levels])
    return Encoded(rows, [torch.cat(level) for level in zip(*parts, strict=True)])


def train(name: str, seed: int, manifest: Manifest, encoder: Encoder, args: Namespace) -> tuple[Model, TrainSettings]:
    """One case's model, and its settings."""
    method, losses, setting = CASES[name]
    stored = FeatureSettings(encoder.settings, store=str(args.folder / "store"))
    plan = anomaly_plan(manifest, stored, setting == SEMI_SUPERVISED) if method == PLUS else None
    index = compute_features(manifest, encoder, stored, None, plan)
    features = training_features(stored, index)
    steps = features.open().count("train") // BATCH
    settings = TrainSettings(method=method, setting=setting, seed=seed, batch_size=BATCH)
    own = settings.own
    if hasattr(own, "epochs"):
        own = replace(own, epochs=-(-args.steps // steps), losses=replace(own.losses, **losses))
    settings = replace(settings, own=own)
    loop = TrainingLoop(
        LoopConfig(settings, encoder.shape, features, training_anomalies(stored, index)), torch.device("cpu")
    )
    with tqdm(desc=name, disable=None) as progress:
        while not loop.done:
            loop.advance()
            progress.update()
    return loop.model.eval(), settings


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
) -> dict[str, float]:
    """The measures, means over the categories."""
    _, good = judge(model, settings, encoder, held_out)
    maps, scores = (one.numpy() for one in judge(model, settings, encoder, test))
    images = [GoodImage(Path(row.path), row.category, row.sha256, row.part) for row in held_out.rows]
    limits = thresholds(images, good.tolist(), CalibrationSettings(FALSE_ALARMS), "checked")
    found = [of_category(category, limit, test.rows, scores, maps, masks) for category, limit in limits.items()]
    return {name: fmean(one[name] for one in found) for name in found[0]}


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
        for name in CASES:
            if mine := by_case.get(name):
                cells = [_spread([line[measure] for line in mine]) for measure in MEASURES]
                yield f"| {name} | {len(mine)} | {' | '.join(cells)} |"

    promised = sorted({round(line["promised"], 4) for line in lines})
    return "\n".join([*rows(), "", f"promised false alarms at most: {', '.join(map(str, promised))}"])


def _spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{fmean(values):.3f}"
