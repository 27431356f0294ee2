"""Workers share a batch, evenly or not, and compute what one would."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch.nn.parallel import DistributedDataParallel

from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.methods.glcf.settings import GlcfSettings
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.methods.inp_former_pp.settings import HeadSettings, InpFormerPlusSettings
from inpformer.methods.nearest.settings import NearestSettings
from inpformer.methods.pnpt.settings import PnptSettings
from inpformer.methods.rb_ae.settings import HeadSettings as SecondSettings
from inpformer.methods.rb_ae.settings import RbAeSettings
from inpformer.training.loop import LoopConfig, TrainingLoop, share
from inpformer.training.settings import TrainSettings
from tests.training.made_up import PYRAMID, Noise, ToySettings, toy_known

# Four blocks of a ViT.
VIT = EncoderShape((Level(3, 24),) * 4, 2)
SETTINGS = {
    "inp_former": TrainSettings(own=InpFormerSettings(num_prototypes=3, grid=3, channels=16, epochs=2, warmup=0)),
    "inp_former_pp": TrainSettings(
        method="inp_former_pp",
        own=InpFormerPlusSettings(
            num_prototypes=3, grid=3, channels=16, epochs=2, warmup=0, head=HeadSettings("jointly", (4, 4))
        ),
    ),
    "nearest": TrainSettings(method="nearest", own=NearestSettings(2, 0.1, grid=3, channels=16)),
    "glcf": TrainSettings(method="glcf", own=GlcfSettings(width=8, depth=1, heads=2, decoder_heads=4, epochs=2)),
    "pnpt": TrainSettings(method="pnpt", own=PnptSettings(width=8, depth=1, decoder_depth=1, heads=2, epochs=2)),
    "rb_ae": TrainSettings(
        method="rb_ae", own=RbAeSettings(width=8, references=2, epochs=1, head=SecondSettings((4, 4), epochs=1))
    ),
}
# Their grids are made of the next coarser one's places.
DOUBLED = EncoderShape((Level(4, 10), Level(2, 14)), None)


def settings_of(method: str) -> TrainSettings:
    return SETTINGS.get(method) or TrainSettings(method="toy", own=ToySettings())


def train(rank: int, workers: int, method: str, folder: Path) -> None:
    """A training as one of several workers; rank 0 leaves the model and what every epoch gave."""
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=workers)
    with toy_known():
        anomalies = Noise(masked=True)
        shape = DOUBLED if method in ("glcf", "pnpt") else PYRAMID
        config = LoopConfig(settings_of(method), shape, Noise(shape.levels), anomalies)  # type: ignore[arg-type]
        wrap = DistributedDataParallel if workers > 1 else None
        loop = TrainingLoop(config, torch.device("cpu"), rank, workers, wrap)
        # Each worker draws its own dropout.
        for module in loop.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        while not loop.done:
            loop.advance()
        history = [list(row.values()) for row in loop.progress.history]
        torch.save((history, loop.model.tensors()), folder / f"{workers}-{rank}.pt")
    if workers > 1:
        dist.destroy_process_group()


def meaningful(tensors: dict[str, torch.Tensor], method: str) -> dict[str, torch.Tensor]:
    """Without the keys' part of a bias: softmax does not see it, so its gradient, and Adam's step, is rounding."""
    found = {
        name: torch.cat([tensor.chunk(3)[0], tensor.chunk(3)[2]]) if name.endswith("attn.qkv.bias") else tensor
        for name, tensor in tensors.items()
    }
    blind = [name for name in found if method == "pnpt" and name.endswith("attn.kv.bias")]
    return found | {name: found[name].chunk(2)[1] for name in blind}


@pytest.mark.parametrize(
    ("method", "workers"),
    [("inp_former", 3), ("inp_former_pp", 3), ("glcf", 3), ("pnpt", 3), ("rb_ae", 3), ("toy", 2), ("nearest", 2)],
)
def test_workers_with_uneven_shares_compute_what_one_does(tmp_path: Path, method: str, workers: int) -> None:
    train(0, 1, method, tmp_path)
    torch.multiprocessing.spawn(train, (workers, method, tmp_path), nprocs=workers)
    alone, model = torch.load(tmp_path / "1-0.pt", weights_only=True)
    for rank in range(workers):
        shared, other = torch.load(tmp_path / f"{workers}-{rank}.pt", weights_only=True)
        assert len(shared) == len(alone) == {"toy": 4, "nearest": 0}.get(method, 2)
        for row, expected in zip(shared, alone, strict=True):
            np.testing.assert_allclose(row, expected, rtol=1e-4)
        assert other.keys() == model.keys()
        for name, tensor in meaningful(model, method).items():
            torch.testing.assert_close(meaningful(other, method)[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("size", "workers"), [(16, 1), (16, 3), (8, 8), (7, 4)])
def test_shares_cover_the_batch_and_differ_by_one_at_most(size: int, workers: int) -> None:
    parts = [range(size)[share(size, rank, workers)] for rank in range(workers)]
    assert [number for part in parts for number in part] == list(range(size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert all(parts)


def test_a_training_that_goes_on_computes_what_one_in_one_piece_does(tmp_path: Path) -> None:
    own = InpFormerSettings(num_prototypes=3, grid=None, channels=None, epochs=2, warmup=3, lr=1e-2)
    config = LoopConfig(TrainSettings(batch_size=7, own=own), VIT, Noise(VIT.levels))  # type: ignore[arg-type]
    whole, first, second = (TrainingLoop(config, torch.device("cpu")) for _ in range(3))
    whole.run_to(2)
    first.run_to(1)
    first.save(tmp_path)
    second.load(tmp_path)
    second.run_to(2)
    assert second.progress == whole.progress
    assert all(torch.equal(a, b) for a, b in zip(second.model.parameters(), whole.model.parameters(), strict=True))
