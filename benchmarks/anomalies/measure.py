"""Epochs that differ in where their pictures with defects come from."""

import argparse
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.epoch.measure import Took, begun, timed
from inpformer.devices import best_device
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.features.masks import pack_masks
from inpformer.training.loop import LoopConfig, Source
from inpformer.training.settings import TrainSettings
from pipelines.features.anomalies import anomaly_plan
from pipelines.features.index import Plan, compute_features
from pipelines.features.settings import FeatureSettings
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import Manifest, Row
from pipelines.training.features import training_anomalies, training_features

BATCH = 16
PLAIN, STORED, MADE = "INP-Former", "INP-Former++, pictures stored", "INP-Former++, pictures made meanwhile"


@dataclass(frozen=True)
class MadeAnew:
    """Pictures with defects that are made on as many threads as there are cores, and encoded, each time they are
    read.
    """

    encoder: Encoder
    plan: Plan[Any]
    rows: dict[str, Sequence[Row]]
    kept: None = None

    def open(self) -> "MadeAnew":
        """Itself, which has what a loop reads of `Views`."""
        return self

    def count(self, split: str) -> int:
        """How many pictures a split has, a variant of each image."""
        return len(self.rows[split])

    def read(self, split: str, numbers: Sequence[int]) -> list[Tensor]:
        """Levels, each [n, N, C], and the masks, on the CPU as those of a store."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = list(pool.map(self._made, (self.rows[split][n] for n in numbers)))
        levels = self.encoder.features(torch.stack([one.pixels for one in made]))
        masks = pack_masks(torch.stack([one.mask for one in made if one.mask is not None]))
        return [*(level.cpu() for level in levels), masks]

    def _made(self, row: Row) -> Any:
        (first, *_) = self.plan.views(row)
        return self.plan.read(row, [first]).encodables(self.encoder.transform)[0]


def run(args: argparse.Namespace) -> None:
    """Fills two stores, then runs epochs in turn."""
    torch.set_num_threads(1)  # threads that wait for each other count as work
    manifest = of_size(build_manifest(args.data, ManifestSettings(str(args.data))), args.images)
    encoder = load_encoder(EncoderSettings()).to(best_device())
    with tempfile.TemporaryDirectory() as temporary:
        stored = FeatureSettings(encoder.settings, store=temporary)
        plan = anomaly_plan(manifest, stored, False)
        clean = timed(lambda: compute_features(manifest, encoder, stored))
        both = timed(lambda: compute_features(manifest, encoder, stored, None, plan))
        variants, val = stored.anomalies.variants, len(list(manifest.held_out))
        print(f"once: {args.images + val} good images {clean}, {variants * args.images + val} made ones {both}")
        index = compute_features(manifest, encoder, stored, None, plan)
        good, bad = training_features(stored, index), training_anomalies(stored, index)
        rows = {split: [r for r in manifest.rows if r.split == split and not r.label] for split in ("train", "val")}
        sources: dict[str, tuple[str, Source | None]] = {
            PLAIN: ("inp_former", None),
            STORED: ("inp_former_pp", bad),
            MADE: ("inp_former_pp", MadeAnew(encoder, plan, rows)),  # type: ignore[dict-item]
        }
        loops = {}
        for name, (method, anomalies) in sources.items():
            settings = TrainSettings(method=method, batch_size=BATCH)
            settings = replace(settings, own=replace(settings.own, epochs=1 + args.rounds))
            loops[name] = begun(LoopConfig(settings, encoder.shape, good, anomalies), encoder.device)
        least: dict[str, Took] = {}
        for _ in range(args.rounds):
            took = {name: timed(loop.advance) for name, loop in loops.items()}
            for name, one in took.items():
                before = least.get(name, one)
                least[name] = Took(min(before.clock, one.clock), min(before.cpu, one.cpu))
            print(f"an epoch: {', '.join(f'{name} {one}' for name, one in took.items())}", flush=True)
        for name, one in least.items():  # others' work only ever adds
            clock, cpu = one.clock / least[PLAIN].clock, one.cpu / least[PLAIN].cpu
            print(f"{name} to {PLAIN}, ratio of the fastest epochs: {clock:.2f} (CPUs {cpu:.2f})")


def of_size(manifest: Manifest, images: int) -> Manifest:
    """The manifest with so many good training images and a quarter as many held out."""
    good = {split: [r for r in manifest.rows if r.split == split and not r.label] for split in ("train", "val")}
    return replace(manifest, rows=[*good["train"][:images], *good["val"][: images // 4]])
