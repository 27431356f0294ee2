"""Epochs of INP-Former that differ in where their features come from."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from safetensors.torch import save_file

from benchmarks.stored import Encoded, Stored, encode_files, store_table
from inpformer.devices import best_device
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.levels import Wants
from inpformer.encoders.settings import BUNDLED, EncoderSettings
from inpformer.errors import UserError
from inpformer.features.objects import Folder
from inpformer.features.shard import row_bytes
from inpformer.features.store import FeatureStore, store_key
from inpformer.features.view_table import Views
from inpformer.images.layouts.sample import IMAGE_SUFFIXES
from inpformer.methods.base import Train
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.streams import chunks
from inpformer.training.loop import LoopConfig, Source, TrainingLoop
from inpformer.training.settings import TrainSettings

BATCH = 16
ENCODING, ALL, WANTED = "encoding", "all levels", "what is wanted"


def run(args: argparse.Namespace) -> None:
    """Raises UserError if the folder holds less than a batch of images."""
    files = sorted(f for f in args.folder.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES)[: args.images]
    files = files[: len(files) // BATCH * BATCH]
    if not files:
        raise UserError(f"{args.folder} holds fewer than {BATCH} images: name a folder with more.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        encoder = load(args, folder).to(best_device())
        settings = settings_for(encoder, 1 + args.rounds)
        stored = {
            ALL: fill(folder, encoder, files, None),
            WANTED: fill(folder, encoder, files, settings.kind.wants(settings.own, encoder.shape)),
        }
        print(f"{encoder.settings.name}, {len(files)} images, batch {BATCH}, {encoder.device}")
        print(f"bytes a view: {', '.join(f'{name} {row_bytes(s.open().levels):,}' for name, s in stored.items())}")
        compare_reading({name: source.open() for name, source in stored.items()}, args.rounds)
        sources: dict[str, Source] = {ENCODING: Encoded(encoder, files), **stored}
        loops = {name: begun(LoopConfig(settings, encoder.shape, s), encoder.device) for name, s in sources.items()}
        compare_epochs(loops, args.rounds)


def load(args: argparse.Namespace, folder: Path) -> Encoder:
    """The encoder asked for, a ViT with random weights."""
    if args.encoder == BUNDLED:
        return load_encoder(EncoderSettings())
    weights = folder / "random.safetensors"
    save_file(timm.create_model(args.encoder, num_classes=0).state_dict(), weights)
    return load_encoder(EncoderSettings(args.encoder, str(weights), resize=args.resize, crop=args.crop, levels=None))


def settings_for(encoder: Encoder, epochs: int) -> TrainSettings:
    """INP-Former's for this encoder."""
    own = InpFormerSettings(epochs=epochs)
    return TrainSettings(
        batch_size=BATCH, own=own if encoder.shape.heads is None else replace(own, grid=None, channels=None)
    )


def fill(folder: Path, encoder: Encoder, files: Sequence[Path], kept: Wants | None) -> Stored:
    """Puts the features of every image into a store, or what is `kept` of them."""
    store = FeatureStore(Folder(folder / "store"), store_key(encoder.key, kept))
    return Stored(store, store_table(store, encode_files(store, encoder, files, kept)), kept)


def begun(config: LoopConfig, device: torch.device) -> TrainingLoop:
    """A loop after its first epoch, which pays for set-up."""
    loop = TrainingLoop(config, device)
    while not isinstance(loop.phases[loop.progress.phase], Train):
        loop.advance()
    loop.advance()
    return loop


class Took(NamedTuple):
    """Seconds of the clock, and of all this process's threads on CPUs, which others' work hardly changes."""

    clock: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.clock:.2f} s (CPUs {self.cpu:.2f} s)"


def timed(work: Callable[[], object]) -> Took:
    """What a call takes, with what it left the GPU to do."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Took(time.perf_counter() - clock, time.process_time() - cpu)


def compare_reading(views: Mapping[str, Views], rounds: int) -> None:
    """Prints what it takes to read all views, from files that the machine has in memory."""
    for _ in range(rounds):
        took = {name: timed(lambda one=one: read(one)) for name, one in views.items()}
        print(f"reading every view: {', '.join(f'{name} {one}' for name, one in took.items())}", flush=True)


def read(views: Views) -> None:
    """All of them once, a batch at a time."""
    for numbers in chunks(iter(range(views.count("train"))), BATCH):
        views.read("train", numbers)


def compare_epochs(loops: Mapping[str, TrainingLoop], rounds: int) -> None:
    """Prints what an epoch of each takes, and how many times the last one's that is."""
    ratios: dict[str, list[Took]] = {name: [] for name in loops}
    for _ in range(rounds):
        took = {name: timed(loop.advance) for name, loop in loops.items()}
        for name, one in took.items():
            ratios[name].append(Took(one.clock / took[WANTED].clock, one.cpu / took[WANTED].cpu))
        print(f"an epoch: {', '.join(f'{name} {one}' for name, one in took.items())}", flush=True)
    for name, ratio in ratios.items():
        clock, cpu = (statistics.median(one) for one in zip(*ratio, strict=True))
        print(f"{name} to {WANTED}, median ratio: {clock:.2f} (CPUs {cpu:.2f})")
