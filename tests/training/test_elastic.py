"""Workers share a batch, evenly or not, and compute what one would."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from inpformer.methods.inp_former.network import NetworkShape
from inpformer.training.loop import LoopConfig, TrainingLoop, share
from inpformer.training.settings import TrainSettings

COLUMNS = ("loss", "soft_mining", "coherence", "val_loss", "gradient_norm")


@dataclass(frozen=True)
class Noise:
    """Features of 35 training images and 5 others, each of its own number."""

    def open(self) -> "Noise":
        return self

    def count(self, split: str) -> int:
        return {"train": 35, "val": 5}[split]

    def read(self, split: str, numbers: list[int]) -> Tensor:
        seeds = [number + 100 * (split == "val") for number in numbers]
        # Images differ in scale of their noise, so that a mean of unequal shares would show.
        made = [torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(s)) * (1 + s % 7) + 1 for s in seeds]
        return torch.stack(made).half()


def train(rank: int, workers: int, folder: Path) -> None:
    """Two epochs as one of several workers; rank 0 leaves the checkpoint and what every epoch gave."""
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=workers)
    settings = TrainSettings(channels=16, epochs=2, batch_size=16, warmup=0)
    config = LoopConfig(settings, NetworkShape(16, 2, 2, 3), 24, Noise())  # type: ignore[arg-type]
    wrap = DistributedDataParallel if workers > 1 else None
    loop = TrainingLoop(config, torch.device("cpu"), rank, workers, wrap)
    loop.start()
    while not loop.done:
        loop.epoch()
    if rank == 0:
        history = [[row[name] for name in COLUMNS] for row in loop.progress.history]
        tensors = {name: parameter.detach() for name, parameter in loop.model.named_parameters()}
        torch.save((torch.tensor(history), tensors), folder / f"{workers}.pt")
    if workers > 1:
        dist.destroy_process_group()


def test_three_workers_with_uneven_shares_compute_what_one_does(tmp_path: Path) -> None:
    train(0, 1, tmp_path)
    torch.multiprocessing.spawn(train, (3, tmp_path), nprocs=3)
    (alone, model), (shared, other) = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (1, 3))
    np.testing.assert_allclose(shared, alone, rtol=1e-4)
    for name, parameter in model.items():
        torch.testing.assert_close(other[name], parameter, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("size", "workers"), [(16, 1), (16, 3), (8, 8), (7, 4)])
def test_shares_cover_the_batch_and_differ_by_one_at_most(size: int, workers: int) -> None:
    parts = [range(size)[share(size, rank, workers)] for rank in range(workers)]
    assert [number for part in parts for number in part] == list(range(size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert all(parts)


def test_a_training_that_goes_on_computes_what_one_in_one_piece_does(tmp_path: Path) -> None:
    settings = TrainSettings(channels=None, epochs=2, batch_size=7, warmup=3, lr=1e-2)
    config = LoopConfig(settings, NetworkShape(24, 2, 2, 3), 24, Noise())  # type: ignore[arg-type]
    whole, first, second = (TrainingLoop(config, torch.device("cpu")) for _ in range(3))
    for _ in range(2):
        whole.epoch()
    first.epoch()
    first.save(tmp_path)
    second.load(tmp_path)
    second.epoch()
    assert second.progress == whole.progress
    assert all(torch.equal(a, b) for a, b in zip(second.model.parameters(), whole.model.parameters(), strict=True))
