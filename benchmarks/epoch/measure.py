"""What the feature store saves: an epoch that reads features against one that encodes its images.

python -m benchmarks.epoch FOLDER [--images 64] [--encoder NAME --resize 448 --crop 392]

FOLDER holds training images, directly or below it. Both kinds of epoch take the same optimiser steps and are run in
turn, so that the ratio holds on a machine whose speed drifts. A ViT is timed with random weights: its speed does not
depend on them.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.stored import stored_views
from inpformer.encoders.encoder import BUNDLED, Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.features.objects import Folder
from inpformer.features.store import FeatureStore
from inpformer.features.view_table import Views
from inpformer.images.layouts.sample import IMAGE_SUFFIXES
from inpformer.images.transform import read_image
from inpformer.methods.inp_former.network import INPFormer, ModelShape
from inpformer.methods.inp_former.settings import LossSettings
from inpformer.nn.optim import StableAdamW
from inpformer.nn.projection import Projection
from inpformer.training.step import train_step

BATCH = 16
PROJECTED_CHANNELS, CHANNELS_PER_HEAD = 128, 32


def load(args: argparse.Namespace, folder: Path) -> Encoder:
    """The encoder asked for, a ViT with random weights."""
    if args.encoder == BUNDLED:
        return load_encoder(EncoderSettings())
    weights = folder / "random.safetensors"
    save_file(timm.create_model(args.encoder, num_classes=0).state_dict(), weights)
    return load_encoder(
        EncoderSettings(args.encoder, str(weights), resize=args.resize, crop=args.crop, levels=None, grid=None)
    )


def fill(store: FeatureStore, encoder: Encoder, files: Sequence[Path]) -> Views:
    """Puts every image's features into the store."""
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    for start in range(0, len(files), BATCH):
        images = [read_image(file) for file in files[start : start + BATCH]]
        store.add(digests[start : start + BATCH], encoder.encode(images))
    return stored_views(store, digests)


def epoch(batches: Sequence[Callable[[], Tensor]], step: Callable[[Tensor], object], device: torch.device) -> float:
    """Seconds for one epoch: each batch is fetched and trained on."""
    began = time.perf_counter()
    for fetch in batches:
        step(fetch())
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Prints both times and their ratio, pair by pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--encoder", default=BUNDLED)
    parser.add_argument("--resize", type=int, default=448)
    parser.add_argument("--crop", type=int, default=392)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    files = sorted(f for f in args.folder.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES)[: args.images]
    files = files[: len(files) // BATCH * BATCH]
    if not files:
        raise SystemExit(f"error: {args.folder} holds fewer than {BATCH} images: name a folder with more.")
    with tempfile.TemporaryDirectory() as temporary:
        encoder = load(args, Path(temporary)).to(device)
        views = fill(FeatureStore(Folder(Path(temporary) / "store"), encoder.key), encoder, files)
        channels, heads, projection = encoder.channels, encoder.heads, None
        if heads is None:
            channels, heads = PROJECTED_CHANNELS, PROJECTED_CHANNELS // CHANNELS_PER_HEAD
            features = (views.read("train", [n]) for n in range(views.count("train")))
            projection = Projection.fit(features, encoder.channels, channels).to(device)
        model = INPFormer(ModelShape(channels, heads, encoder.groups, num_prototypes=6)).to(device)
        optimizer = StableAdamW(model.parameters())

        def step(features: Tensor) -> None:
            target = features.to(device).float()
            target = target if projection is None else projection(target)
            train_step(model, optimizer, target, 1e-4, LossSettings(), autocast=device.type == "cuda")

        starts = range(0, len(files), BATCH)
        stored = [lambda s=s: views.read("train", range(s, s + BATCH)) for s in starts]
        encoded = [lambda s=s: encoder.encode([read_image(f) for f in files[s : s + BATCH]]) for s in starts]
        epoch(stored[:1], step, device)  # the first step pays for set-up
        ratios = []
        print(f"{encoder.settings.name}, {len(files)} images, batch {BATCH}, {device}")
        for _ in range(args.pairs):
            slow, fast = epoch(encoded, step, device), epoch(stored, step, device)
            ratios.append(slow / fast)
            print(f"encoding each epoch {slow:7.2f} s   from the store {fast:7.2f} s   ratio {slow / fast:5.2f}")
        print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
