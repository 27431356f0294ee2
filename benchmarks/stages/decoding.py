"""How fast pictures are read, decoded and brought to the encoder's size: in threads and in processes."""

import hashlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inpformer.devices import best_device
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.images.transform import Transform
from inpformer.images.views import views
from inpformer.streams import ahead, ahead_in, chunks
from pipelines.features.encode import ImageViews

BATCH = 16  # views, as features.batch_size
BEFORE = 8  # threads
ROUNDS = 2


class Job(NamedTuple):
    """A file, the side of its picture, and what the encoder sees of it."""

    file: Path
    side: int
    transform: Transform


def made_up(folder: Path, count: int, side: int, kind: str) -> list[Path]:
    """Photographs of a grain on a shade, so that they compress as photographs do."""
    rng = np.random.default_rng(0)
    shade = Image.fromarray(rng.integers(60, 200, (8, 8, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    files = []
    for number in range(count):
        grain = rng.integers(0, 12, (side, side, 1), np.uint8)
        files.append(folder / f"{number}.{kind.lower()}")
        Image.fromarray(np.asarray(shade) + grain).save(files[-1], kind)
    return files


def decoded(job: Job) -> Tensor:
    """What the stage does before the encoder: reads, checks, decodes, resizes."""
    content = job.file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    (view,) = views((job.side, job.side), None, augmented=False)
    (one,) = ImageViews(content, [view], [view.key(sha256)], str(job.file)).encodables(job.transform)
    return one.pixels


def _begin() -> None:
    torch.set_num_threads(1)


def drained(pixels: Iterator[Tensor], encoder: Encoder | None) -> None:
    """Takes everything, and has it encoded."""
    for part in chunks(pixels, BATCH):
        if encoder is not None:
            encoder.features(torch.stack(part))


def run(images: int, side: int, kind: str) -> None:
    """Prints a line for each way: pictures a second, decoded alone and encoded, in each round."""
    cores = os.cpu_count() or 1
    encoder = load_encoder(EncoderSettings()).to(best_device())
    with tempfile.TemporaryDirectory() as folder:
        files = made_up(Path(folder), images, side, kind)
        size = sum(file.stat().st_size for file in files) / len(files)
        print(f"{images} {kind}s of {side}×{side}, {size / 1e6:.2f} MB; {cores} cores, {encoder.device}", flush=True)
        jobs = [Job(file, side, encoder.transform) for file in files]
        began = time.perf_counter()
        with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"), _begin) as pool:
            list(ahead_in(pool, decoded, jobs[: 2 * cores], cores))
            print(f"{cores} processes started in {time.perf_counter() - began:.1f} s", flush=True)
            ways: dict[str, Callable[[], Iterator[Tensor]]] = {
                f"{count} threads": partial(ahead, decoded, jobs, count)
                for count in sorted({1, BEFORE, cores, 2 * cores})
            }
            ways[f"{cores} processes"] = partial(ahead_in, pool, decoded, jobs, 2 * cores)
            for way in ways.values():
                drained(way(), None)  # what is slow once
            speeds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ways}
            for _ in range(ROUNDS):
                for name, way in ways.items():
                    for place, through in enumerate((None, encoder)):
                        began = time.perf_counter()
                        drained(way(), through)
                        speeds[name][place].append(images / (time.perf_counter() - began))
    for name, (alone, encoded) in speeds.items():
        print(f"{name:14} {_all(alone)} pictures/s decoded, {_all(encoded)} encoded", flush=True)


def _all(speeds: Sequence[float]) -> str:
    return ", ".join(f"{speed:.1f}" for speed in speeds)
