"""One training step: what it refuses, what it clips, and that it learns."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.methods.base import Train
from inpformer.methods.inp_former.losses import losses
from inpformer.methods.inp_former.model import InpFormer
from inpformer.methods.inp_former.network import INPFormer, NetworkShape
from inpformer.methods.inp_former.settings import InpFormerSettings, LossSettings
from inpformer.nn.optim import StableAdamW
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings
from inpformer.training.step import Step, train_step
from tests.training.made_up import Noise

Trainee = tuple[INPFormer, StableAdamW]


@pytest.fixture
def trainee() -> Trainee:
    torch.manual_seed(0)
    model = INPFormer(NetworkShape(channels=16, heads=2, groups=2, num_prototypes=3))
    return model, StableAdamW(model.parameters())


def batch(scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return scale * (torch.randn(4, 2, 9, 16, generator=generator) + 1)


def step(trainee: Trainee, target: Tensor, rate: float = 1e-3, **options: Any) -> Step:
    def loss() -> dict[str, Tensor]:
        found = losses(trainee[0](target), LossSettings())
        return {"total": found.total, "soft_mining": found.soft_mining, "coherence": found.coherence}

    return train_step(*trainee, loss, rate, **{"clip": 0.1, **options})


def snapshot(trainee: Trainee) -> list[Tensor]:
    model, optimizer = trainee
    slots = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    return copy.deepcopy([*model.state_dict().values(), *slots])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(trainee: Trainee, bad: float) -> None:
    step(trainee, batch())
    before = snapshot(trainee)
    target = batch()
    target[2, 0, 4, 7] = bad
    assert step(trainee, target).refused
    assert all(torch.equal(a, b) for a, b in zip(snapshot(trainee), before, strict=True))
    assert not step(trainee, batch()).refused
    after = snapshot(trainee)
    assert all(torch.isfinite(t).all() for t in after)
    assert not torch.equal(after[0], before[0])


def test_the_step_after_a_refused_one_is_as_if_it_had_never_been() -> None:
    results = []
    for targets in ([batch()], [batch() * float("nan"), batch()]):
        torch.manual_seed(0)
        model = INPFormer(NetworkShape(16, 2, 2, 3))
        optimizer = StableAdamW(model.parameters())
        for target in targets:
            step((model, optimizer), target)
        results.append(snapshot((model, optimizer)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_twenty_steps_on_one_batch_lower_the_loss(trainee: Trainee) -> None:
    totals = [float(step(trainee, batch()).terms["total"]) for _ in range(20)]
    assert totals[-1] < 0.8 * totals[0]


def test_gradients_are_clipped_and_the_norm_is_the_one_before(trainee: Trainee) -> None:
    model = trainee[0]
    for clip in (0.1, 0.05):
        done = step(trainee, batch(), clip=clip)
        clipped = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
        assert float(done.gradient_norm) > 0.11
        assert float(clipped) == pytest.approx(clip, rel=1e-4)


def test_the_paper_clips_at_a_tenth() -> None:
    (phase,) = InpFormer(InpFormerSettings(grid=None, channels=None), EncoderShape((Level(3, 16),) * 4, 2)).phases()
    assert isinstance(phase, Train)
    assert phase.clip == 0.1


def test_the_rate_given_is_the_rate_used(trainee: Trainee) -> None:
    before = snapshot(trainee)
    step(trainee, batch(), rate=0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, trainee[0].state_dict().values(), strict=False))
    step(trainee, batch(), rate=1e-3)
    assert 0 < float((before[0] - trainee[0].prototype_token).detach().abs().max()) < 3e-3


def test_the_total_reported_is_the_sum_of_its_terms(trainee: Trainee) -> None:
    terms = step(trainee, batch()).terms
    assert float(terms["total"]) == pytest.approx(float(terms["soft_mining"]) + 0.2 * float(terms["coherence"]))
    assert not any(term.requires_grad for term in terms.values())


def test_a_share_counts_by_its_size(trainee: Trainee) -> None:
    whole, part = step(trainee, batch(), rate=0.0), step(trainee, batch(), rate=0.0, weight=0.75)
    for name, value in whole.terms.items():
        assert float(part.terms[name]) == pytest.approx(0.75 * float(value))
    assert float(part.gradient_norm) == pytest.approx(0.75 * float(whole.gradient_norm), rel=1e-4)


def test_bfloat16_is_close_to_float32(trainee: Trainee) -> None:
    """What the loop does on GPUs: the network runs in bfloat16, the losses do not."""

    def loss(half: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            output = trainee[0](batch())
        return losses(output, LossSettings()).total

    full, half = (train_step(*trainee, lambda h=h: {"total": loss(h)}, 0.0, 0.1).terms["total"] for h in (False, True))
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(full), rel=0.02)
    assert float(half) != float(full)


@pytest.mark.gpu
def test_on_a_gpu_the_loop_trains_in_bfloat16_and_validates_in_float32() -> None:
    own = InpFormerSettings(num_prototypes=3, grid=None, channels=None, epochs=1)
    shape = EncoderShape((Level(3, 24),) * 4, 2)
    loops = []
    for device in ("cpu", "cuda"):
        config = LoopConfig(TrainSettings(batch_size=7, own=own), shape, Noise(shape.levels))  # type: ignore[arg-type]
        loops.append(TrainingLoop(config, torch.device(device)))
        loops[-1].advance()
    (here,), (there,) = (loop.progress.history for loop in loops)
    assert there["loss"] != here["loss"]
    assert there["loss"] == pytest.approx(here["loss"], rel=0.02)
