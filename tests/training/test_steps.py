"""What the loop makes of its steps: which are refused and counted, when it gives up, and how often it waits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.methods.inp_former_pp.settings import InpFormerPlusSettings
from inpformer.training.loop import MOST_REFUSED_STEPS, LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings
from tests.training.made_up import Noise

BATCH = 4
VIT = EncoderShape((Level(3, 24),) * 4, heads=2)
OWN = InpFormerSettings(num_prototypes=3, grid=None, channels=None, epochs=2, warmup=0)
PLUS = InpFormerPlusSettings(num_prototypes=3, grid=None, channels=None, epochs=2, warmup=0)


@dataclass(frozen=True)
class Spoilt(Noise):
    """The training images of these numbers have features that are no numbers."""

    levels: tuple[Level, ...] = VIT.levels
    spoilt: frozenset[int] = frozenset()

    def read(self, split: str, numbers: Sequence[int]) -> list[Tensor]:
        levels = super().read(split, numbers)
        for place, number in enumerate(numbers):
            if split == "train" and number in self.spoilt:
                levels[0][place] = float("nan")
        return levels


def begun(images: int, spoilt: Sequence[int] = (), own: Any = OWN) -> TrainingLoop:
    method = "inp_former_pp" if isinstance(own, InpFormerPlusSettings) else "inp_former"
    settings = TrainSettings(method=method, batch_size=BATCH, own=own)
    features, anomalies = Spoilt(images=images, spoilt=frozenset(spoilt)), Noise(VIT.levels, 7, masked=True)
    return TrainingLoop(LoopConfig(settings, VIT, features, anomalies), torch.device("cpu"))  # type: ignore[arg-type]


class Reads(TorchDispatchMode):
    """Counts the numbers that the host asks of a device; on a GPU it waits for each."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_refused_step_is_counted_and_is_in_no_mean() -> None:
    still = replace(OWN, lr=1e-30, final_lr=0.0)  # a step changes nothing, so that a batch has its own numbers
    order = torch.randperm(2 * BATCH, generator=torch.Generator().manual_seed(TrainSettings().seed)).tolist()
    loops = [begun(2 * BATCH, spoilt, still) for spoilt in (order[:1], order[-1:], ())]
    first, second, both = (loop.advance() or {} for loop in loops)
    assert [row["refused_steps"] for row in (first, second, both)] == [1, 1, 0]
    for name in ("loss", "soft_mining", "coherence", "gradient_norm"):
        assert first[name] != pytest.approx(second[name], rel=1e-3)
        assert (first[name] + second[name]) / 2 == pytest.approx(both[name], rel=1e-5)
    assert [loop.progress.steps for loop in loops] == [2, 2, 2]  # the schedule goes on
    taken = [{state["step"] for state in loop.optimizer.state.values()} for loop in loops]  # type: ignore[union-attr]
    assert taken == [{1}, {1}, {2}]


def test_it_gives_up_when_so_many_steps_in_a_row_are_refused() -> None:
    one_less = begun(BATCH * (MOST_REFUSED_STEPS - 1), range(1000))
    row = one_less.advance()
    assert row is not None
    assert row["refused_steps"] == MOST_REFUSED_STEPS - 1
    loop = begun(BATCH * (MOST_REFUSED_STEPS + 1), range(1000))
    before = loop.model.tensors()
    with pytest.raises(UserError, match=r"^20 steps in a row .* \(last in epoch 1\): lower the learning rate of inp_f"):
        loop.advance()
    assert loop.progress.steps == MOST_REFUSED_STEPS
    assert all(torch.equal(tensor, before[name]) for name, tensor in loop.model.tensors().items())


@pytest.mark.parametrize("own", [OWN, PLUS])
def test_the_host_asks_for_one_number_a_step(own: Any) -> None:
    counts = []
    for steps in (2, 7):
        loop = begun(BATCH * steps, own=own)
        while not loop.progress.history:  # the epoch, after what is fitted
            with Reads() as reads:
                loop.advance()
        counts.append(reads.count)
    assert counts[1] - counts[0] == 5
