"""The gate's suspects: good pictures that stand out from the other good ones."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.levels import Wants
from inpformer.encoders.settings import EncoderSettings
from inpformer.streams import ahead, chunks
from pipelines.gate.finding import WARNING, Finding
from pipelines.gate.look import picture
from pipelines.gate.processes import JOB_IMAGES, Spread, spread
from pipelines.manifest.table import Manifest, Row

T = TypeVar("T")

# The choice of size, strides and bound, and what it finds: benchmarks/gate.md.
ENCODER = EncoderSettings(resize=128, crop=128, levels=(4, 8, 16))
WANTS = Wants(((0, 1, 2),), "channels", (8,))
BATCH = 16
IMAGES_AHEAD = 4  # read beside the encoder's work
MEMORY_IMAGES = 512  # of a category, whose tokens the others are held against
REFERENCES = 8192  # tokens of theirs
STRANGEST = 0.01  # of an image's tokens: a defect is small
FEWEST = 10  # images that a median and its deviation can be taken of
STANDS_OUT = 5.0  # robust standard deviations


class Memory:
    """A seeded sample of the tokens [n, N, C] of a category's good images."""

    def __init__(self, tokens: Tensor) -> None:
        n, count, channels = tokens.shape
        picked = torch.randperm(n * count, generator=torch.Generator().manual_seed(0))[:REFERENCES].to(tokens.device)
        bank, self.owner = tokens.reshape(-1, channels)[picked].float(), picked // count
        self.mean, self.spread = bank.mean(0), bank.std(0) + 1e-6
        self.bank = (bank - self.mean) / self.spread
        self.half_squares = self.bank.square().sum(1) / 2

    def score(self, image: Tensor, number: int | None = None) -> float:
        """The mean of the largest 1 % of the distances of its tokens [N, C] to their nearest in memory; its own, if it
        is image `number` of those, do not count.
        """
        tokens = (image.float() - self.mean) / self.spread
        # Half the squared distances but for the tokens' own squares, which the nearest needs not.
        distances = torch.addmm(self.half_squares, tokens, self.bank.T, alpha=-1)
        if number is not None:
            distances[:, self.owner == number] = torch.inf
        squared = 2 * distances.amin(1) + tokens.square().sum(1)
        return float(squared.clamp(min=0).sqrt().topk(max(1, round(STRANGEST * len(tokens)))).values.mean())


class Job(NamedTuple):
    """Images to encode, or images of a memory that are encoded already: numbers `start` to `stop` in it. `white` is
    that of 16 bits a channel.
    """

    root: Path
    paths: Sequence[str]
    white: int
    memory: Path | None = None
    start: int = 0
    stop: int = 0


def suspects(manifest: Manifest, white: int) -> list[Finding]:
    """Train and val images whose strangest tokens are far from those of the other ones, the strangest first.

    Images whose score is more than STANDS_OUT robust standard deviations (median, MAD) above the median of the
    category are reported. Every image is scored, copies once; with more than MEMORY_IMAGES in a category they are held
    against a seeded sample of so many. Pictures of the same part hide one another, as does a defect that several good
    pictures share. `white` is that of 16 bits a channel.
    """
    distinct = {row.sha256: row for row in manifest.rows if row.split != "test" and not row.label}
    learnt: dict[str, list[Row]] = defaultdict(list)
    for row in distinct.values():
        learnt[row.category].append(row)
    large = {category: rows for category, rows in sorted(learnt.items()) if len(rows) >= FEWEST}
    found: list[tuple[float, Finding]] = []
    total = sum(map(len, large.values()))
    with (
        tqdm(total=total, desc="gate: suspects", unit="image", disable=None) as progress,
        spread(total, alone=torch.cuda.is_available()) as each,  # a GPU is fed by one process
    ):
        for category, rows in large.items():
            ordered = sample_first(rows)
            scores = score_all(manifest.root, [row.path for row in ordered], white, each, progress)
            for row, far in zip(ordered, deviations(scores), strict=True):
                if far > STANDS_OUT:
                    bound = f"{far:.1f} robust standard deviations from them, said from {STANDS_OUT:g} on"
                    text = f"something in this good picture ({row.split}) is unlike the others: {bound}"
                    found.append((far, Finding("suspects", WARNING, category, (row.path,), text)))
    return [finding for _, finding in sorted(found, key=lambda f: (-f[0], f[1].paths))]


def sample_first(images: Sequence[T]) -> list[T]:
    """The images in an order whose first MEMORY_IMAGES are a seeded sample, if there are more."""
    if len(images) <= MEMORY_IMAGES:
        return list(images)
    return [images[n] for n in np.random.default_rng(0).permutation(len(images))]


def score_all(root: Path, paths: Sequence[str], white: int, each: Spread, progress: tqdm) -> NDArray[np.float32]:
    """The scores [n] of all images of a category; the first MEMORY_IMAGES are those that all are held against."""
    sample, rest = paths[:MEMORY_IMAGES], paths[MEMORY_IMAGES:]
    found: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        memory = Path(folder) / "memory.safetensors"
        starts = range(0, len(sample), JOB_IMAGES)
        encoded = each(_tokens, [Job(root, sample[n : n + JOB_IMAGES], white) for n in starts])
        save_file({"tokens": torch.cat(list(encoded))}, memory)
        jobs = [Job(root, (), white, memory, n, min(n + JOB_IMAGES, len(sample))) for n in starts]
        jobs += [Job(root, rest[n : n + JOB_IMAGES], white, memory) for n in range(0, len(rest), JOB_IMAGES)]
        for part in each(_score, jobs):
            found += part
            progress.update(len(part))
    return np.asarray(found, np.float32)


def _score(job: Job) -> list[float]:
    assert job.memory is not None
    tokens, memory = _memory(job.memory)
    if not job.paths:
        return [memory.score(tokens[n], n) for n in range(job.start, job.stop)]
    return [memory.score(image.to(tokens.device)) for image in _tokens(job)]


@lru_cache(maxsize=1)
def _memory(file: Path) -> tuple[Tensor, Memory]:
    tokens = load_file(file, str(_encoder().device))["tokens"]
    return tokens, Memory(tokens)


@lru_cache(maxsize=1)
def _encoder() -> Encoder:
    encoder = load_encoder(ENCODER).to("cuda" if torch.cuda.is_available() else "cpu")
    encoder.network.to(memory_format=torch.channels_last)  # the faster for a convolutional network
    return encoder


def _tokens(job: Job) -> Tensor:
    """[n, N, C] float16 of the job's images, on the CPU."""
    encoder = _encoder()
    pixels = ahead(lambda path: encoder.transform.image(picture(job.root / path, job.white)), job.paths, IMAGES_AHEAD)
    return torch.cat(list(_encode(encoder, pixels)))


def _encode(encoder: Encoder, pixels: Iterator[Tensor]) -> Iterator[Tensor]:
    for part in chunks(pixels, BATCH):
        batch = torch.stack(part).contiguous(memory_format=torch.channels_last)
        yield WANTS.of(encoder.features(batch))[0].to("cpu", torch.float16)


def deviations(scores: NDArray[np.float32]) -> list[float]:
    """Robust standard deviations above the median; 1.4826 makes the MAD that of a normal distribution."""
    above = scores - np.median(scores)
    return [float(value) for value in above / max(1.4826 * float(np.median(np.abs(above))), 1e-6)]
