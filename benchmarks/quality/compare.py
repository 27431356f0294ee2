"""Does INP-Former find more than nearest-neighbour search does in the very same features?"""

import time
from argparse import Namespace
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from benchmarks.stored import stored_views
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.features.objects import Folder
from inpformer.features.shard import SHARD_IMAGES, key_array
from inpformer.features.store import FeatureStore
from inpformer.images.layouts import read_data
from inpformer.images.layouts.masks import union
from inpformer.images.layouts.sample import GOOD, Sample
from inpformer.images.transform import MAP_SIZE, read_image
from inpformer.methods.inp_former.network import INPFormer, ModelShape
from inpformer.methods.inp_former.settings import LossSettings
from inpformer.metrics.image import image_metrics
from inpformer.metrics.pixel import pixel_metrics
from inpformer.nn.maps import image_scores, reconstruction_map, to_map
from inpformer.nn.optim import StableAdamW, learning_rate
from inpformer.nn.projection import Projection
from inpformer.training.step import train_step

CHANNELS, HEADS, PROTOTYPES = 128, 4, 6
BATCH = 16
NEIGHBOURS = 8000
SEED = 1


def run(args: Namespace) -> None:
    """Encodes what the store lacks, trains, searches, and prints one table."""
    encoder = load_encoder(EncoderSettings())
    samples = read_data(args.data).samples
    features = encode(samples, encoder, args.store)
    projection = Projection.fit(
        (f for f, s in zip(features, samples, strict=True) if s.split == "train"), encoder.channels, CHANNELS
    )
    tokens = {
        split: torch.stack([projection(f) for f, s in zip(features, samples, strict=True) if s.split == split])
        for split in ("train", "test")
    }
    test = [s for s in samples if s.split == "test"]
    masks = read_masks(test, encoder)
    size = encoder.transform.crop

    started = time.perf_counter()
    maps = nearest_neighbour_maps(tokens["train"], tokens["test"], size)
    seconds = time.perf_counter() - started
    print_header(test)
    # Nearest-neighbour search gets the better of two readings; INP-Former has only its own.
    print_row("NN, largest pixel", maps.amax(dim=(1, 2)), maps, test, masks, seconds)
    print_row("NN, top 1 %", image_scores(maps), maps, test, masks, seconds)
    started = time.perf_counter()
    maps = reconstruction_maps(train(tokens["train"], args.epochs), tokens["test"], size)
    seconds = time.perf_counter() - started
    print_row("INP-Former", image_scores(maps), maps, test, masks, seconds)


def encode(samples: Sequence[Sample], encoder: Encoder, folder: Path) -> Tensor:
    """The features of all samples, in their order: [n, G, N, C] float16."""
    store = FeatureStore(Folder(folder), encoder.key)
    paths = {sha256(s.path.read_bytes()).hexdigest(): s.path for s in samples}
    keys = sorted(paths)
    there = store.scan().find(key_array(keys)) >= 0
    missing = [key for key, known in zip(keys, there, strict=True) if not known]
    for start in tqdm(range(0, len(missing), SHARD_IMAGES), desc="encoding", disable=not missing):
        shard = missing[start : start + SHARD_IMAGES]
        store.add(shard, encoder.encode([read_image(paths[digest]) for digest in shard]))
    number = {key: n for n, key in enumerate(keys)}
    order = [number[sha256(s.path.read_bytes()).hexdigest()] for s in samples]
    return stored_views(store, keys).read("train", order)


def read_masks(test: Sequence[Sample], encoder: Encoder) -> NDArray[np.bool_]:
    """The masks of the test images: [n, 256, 256]."""
    none = np.zeros((MAP_SIZE, MAP_SIZE), dtype=np.bool_)
    return np.stack(
        [
            encoder.transform.mask(union([read_image(mask) for mask in s.masks], s.mask_level)) if s.masks else none
            for s in test
        ]
    )


def train(tokens: Tensor, epochs: int) -> INPFormer:
    """INP-Former on `tokens` [n, G, N, C], with the paper's losses and its schedule cut to `epochs`."""
    torch.manual_seed(SEED)
    model = INPFormer(ModelShape(CHANNELS, HEADS, tokens.shape[1], PROTOTYPES))
    optimizer, settings = StableAdamW(model.parameters()), LossSettings()
    steps = len(tokens) // BATCH
    progress = tqdm(total=epochs * steps, desc="training")
    for _ in range(epochs):
        for batch in torch.randperm(len(tokens))[: steps * BATCH].split(BATCH):
            rate = learning_rate(progress.n, epochs * steps)
            train_step(model, optimizer, tokens[batch], rate, settings, autocast=tokens.is_cuda)
            progress.update()
    progress.close()
    return model.eval()


@torch.inference_mode()
def reconstruction_maps(model: INPFormer, tokens: Tensor, size: int) -> Tensor:
    """INP-Former's anomaly maps [n, 256, 256]."""
    return torch.cat([reconstruction_map(model(batch), size) for batch in tokens.split(BATCH)])


@torch.inference_mode()
def nearest_neighbour_maps(train_tokens: Tensor, tokens: Tensor, size: int) -> Tensor:
    """Maps of the Euclidean distance to the nearest of `NEIGHBOURS` training tokens: [n, 256, 256]."""
    flat = train_tokens.flatten(0, -2)
    memory = flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(SEED))[:NEIGHBOURS]]
    nearest = torch.cat([torch.cdist(batch, memory).amin(dim=-1) for batch in tqdm(tokens.split(BATCH), desc="NN")])
    return torch.cat([to_map(batch, size) for batch in nearest.split(BATCH)])


def print_header(test: Sequence[Sample]) -> None:
    """The table's first two lines."""
    names = ["method", "I-AUROC", "P-AUROC", "P-AP", "AUPRO", *kinds(test), "seconds"]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")


def print_row(
    name: str, scores: Tensor, maps: Tensor, test: Sequence[Sample], masks: NDArray[np.bool_], seconds: float
) -> None:
    """One row: image and pixel metrics, and the image AUROC of each kind of defect against all good images."""
    defect = np.array([s.defect for s in test])
    # A defective image whose mask is empty says nothing about pixels.
    usable = (defect == GOOD) | masks.any(axis=(1, 2))
    pixels = pixel_metrics(maps.numpy()[usable], masks[usable])
    of_kind = []
    for kind in kinds(test):
        those = (defect == GOOD) | (defect == kind)
        of_kind.append(image_metrics(scores.numpy()[those], defect[those] != GOOD).auroc)
    overall = image_metrics(scores.numpy(), defect != GOOD).auroc
    numbers = [overall, pixels.auroc, pixels.ap, pixels.aupro, *of_kind]
    print(f"| {name} | {' | '.join(f'{n:.3f}' for n in numbers)} | {seconds:.0f} |", flush=True)


def kinds(test: Sequence[Sample]) -> list[str]:
    """The kinds of defects, sorted."""
    return sorted({s.defect for s in test} - {GOOD})
