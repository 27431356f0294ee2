"""In what numbers a step computes: 16 bit on GPUs alone, as many CPUs lack it and take ten times as long."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.features.objects import Folder
from inpformer.features.shard import key_array
from inpformer.features.store import FeatureStore
from inpformer.features.view_table import Views, Wanted, write_table
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings

SHAPE = EncoderShape((Level(4, 16),) * 2, heads=2)


@dataclass(frozen=True)
class Noise:
    """Eight made-up views, of which two are held out."""

    folder: Path
    kept: Wants | None = None

    def open(self) -> Views:
        store = FeatureStore(Folder(self.folder), "key")
        keys = [f"{n:064x}" for n in range(8)]
        store.add(keys, [torch.randn(8, level.tokens, level.channels) for level in SHAPE.levels])
        split = torch.tensor([0] * 6 + [1] * 2, dtype=torch.int8).numpy()
        wanted = Wanted.of(split, key_array(keys), torch.zeros(8, dtype=torch.int16).numpy(), ("nut",))
        write_table(store, wanted, store.scan())
        return Views(store, wanted.digest)


@pytest.mark.parametrize(
    ("device", "expected"),
    [("cpu", torch.float32), pytest.param("cuda", torch.bfloat16, marks=pytest.mark.gpu)],
)
def test_a_step_computes_in_16_bit_on_gpus_alone(tmp_path: Path, device: str, expected: torch.dtype) -> None:
    own = InpFormerSettings(num_prototypes=2, grid=None, channels=None, epochs=1, warmup=0)
    loop = TrainingLoop(LoopConfig(TrainSettings(batch_size=2, own=own), SHAPE, Noise(tmp_path)), torch.device(device))
    seen = set()
    for module in loop.model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda module, given, out: seen.add(out.dtype) if module.training else None)
    loop.advance()
    assert seen == {expected}
    assert loop.progress.history[0]["refused_steps"] == 0
