"""Methods on one category: each is trained on its good images and judges its test images."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from benchmarks.stored import Stored, encode_files, store_table
from inpformer.config import build
from inpformer.devices import best_device
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.errors import UserError
from inpformer.features.objects import Folder
from inpformer.features.store import FeatureStore
from inpformer.images.frame import MAP_SIZE
from inpformer.images.layouts import read_data
from inpformer.images.layouts.masks import union
from inpformer.images.layouts.sample import GOOD, Sample
from inpformer.images.transform import read_image
from inpformer.methods import find_method
from inpformer.metrics.image import image_metrics
from inpformer.metrics.pixel import pixel_metrics
from inpformer.streams import chunks
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings

BATCH = 16
SEED = 1


def run(data: Path, methods: Sequence[str], folder: Path) -> None:
    """Encodes what the store in `folder` lacks, trains each method, judges, and prints a row each."""
    cases = {text: read_method(text) for text in methods}
    encoder = load_encoder(EncoderSettings()).to(best_device())
    samples = read_data(data).samples
    test = [s for s in samples if s.split == "test"]
    masks = read_masks(test, encoder)
    store = FeatureStore(Folder(folder), encoder.key)
    keys = encode_files(store, encoder, [s.path for s in samples])
    of = {split: [key for key, s in zip(keys, samples, strict=True) if s.split == split] for split in ("train", "test")}
    tables = {split: Stored(store, store_table(store, keys)) for split, keys in of.items()}
    numbers = {key: n for n, key in enumerate(sorted(set(of["test"])))}
    order = [numbers[key] for key in of["test"]]
    print_header(test)
    for text, settings in cases.items():
        began = time.perf_counter()
        loop = train(settings, encoder, tables["train"], text)
        trained = time.perf_counter()
        maps = judge(loop, encoder, tables["test"], order)
        scores = loop.model.scores(maps)
        judged = time.perf_counter() - trained
        row = [*measures(scores, maps, test, masks), f"{trained - began:.0f}", f"{1e3 * judged / len(test):.0f}"]
        print(f"| {text} | {' | '.join(row)} |", flush=True)


def read_method(text: str) -> TrainSettings:
    """A method's name, and settings after a colon: "nearest:neighbours=3,coreset_share=0.1".

    Raises UserError for an unknown name or key and for an impossible value.
    """
    name, _, rest = text.partition(":")
    values: dict[str, Any] = dict(pair.partition("=")[::2] for pair in rest.split(",") if pair)
    try:
        values = {key: json.loads(value) for key, value in values.items()}
    except ValueError:
        raise UserError(f"--methods {text}: settings are numbers or null, e.g. nearest:neighbours=3.") from None
    return TrainSettings(
        method=name, batch_size=BATCH, seed=SEED, own=build(find_method(name).settings, values, f"--methods {name}")
    )


def read_masks(test: Sequence[Sample], encoder: Encoder) -> NDArray[np.bool_]:
    """The masks of the test images: [n, 256, 256]."""
    none = np.zeros((MAP_SIZE, MAP_SIZE), dtype=np.bool_)
    return np.stack(
        [
            encoder.transform.mask(union([read_image(mask) for mask in s.masks], s.mask_level)) if s.masks else none
            for s in test
        ]
    )


def train(settings: TrainSettings, encoder: Encoder, features: Stored, name: str) -> TrainingLoop:
    """The loop after its last phase."""
    loop = TrainingLoop(LoopConfig(settings, encoder.shape, features), encoder.device)
    with tqdm(desc=name, disable=None) as progress:
        while not loop.done:
            loop.advance()
            progress.update()
    loop.model.eval()
    return loop


@torch.inference_mode()
def judge(loop: TrainingLoop, encoder: Encoder, features: Stored, order: Sequence[int]) -> Tensor:
    """The anomaly maps of some views, by their numbers, in that order: [n, 256, 256]."""
    views = features.open()
    maps = []
    for numbers in chunks(iter(order), BATCH):
        groups = loop.wants.of([level.to(encoder.device) for level in views.read("train", numbers)])
        maps.append(loop.model.maps(groups, encoder.transform.crop, zero_shot=False).cpu())
    return torch.cat(maps)


def print_header(test: Sequence[Sample]) -> None:
    """The table's first two lines."""
    names = ["method", "I-AUROC", "P-AUROC", "P-AP", "AUPRO", *kinds(test), "training, s", "judging, ms an image"]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")


def measures(scores: Tensor, maps: Tensor, test: Sequence[Sample], masks: NDArray[np.bool_]) -> list[str]:
    """Image and pixel metrics, and the image AUROC of each kind of defect against all good images."""
    defect = np.array([s.defect for s in test])
    # A defective image whose mask is empty says nothing about pixels.
    usable = (defect == GOOD) | masks.any(axis=(1, 2))
    pixels = pixel_metrics(maps.numpy()[usable], masks[usable])
    of_kind = []
    for kind in kinds(test):
        those = (defect == GOOD) | (defect == kind)
        of_kind.append(image_metrics(scores.numpy()[those], defect[those] != GOOD).auroc)
    overall = image_metrics(scores.numpy(), defect != GOOD).auroc
    return [f"{number:.3f}" for number in (overall, pixels.auroc, pixels.ap, pixels.aupro, *of_kind)]


def kinds(test: Sequence[Sample]) -> list[str]:
    """The kinds of defects, sorted."""
    return sorted({s.defect for s in test} - {GOOD})
