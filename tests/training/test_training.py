"""One training step: what it refuses, what it clips, and that it learns."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from inpformer.methods.inp_former.network import INPFormer, NetworkShape
from inpformer.methods.inp_former.settings import LossSettings
from inpformer.nn.optim import StableAdamW
from inpformer.training.step import GRADIENT_CLIP, Step, train_step

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
    return train_step(*trainee, target, rate, LossSettings(), **options)


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
    totals = [float(step(trainee, batch()).total) for _ in range(20)]
    assert totals[-1] < 0.8 * totals[0]


def test_gradients_are_clipped_and_the_norm_is_the_one_before(trainee: Trainee) -> None:
    model = trainee[0]
    done = step(trainee, batch())
    clipped = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert GRADIENT_CLIP == 0.1
    assert float(done.gradient_norm) > 0.11
    assert float(clipped) == pytest.approx(0.1, rel=1e-4)


def test_the_rate_given_is_the_rate_used(trainee: Trainee) -> None:
    before = snapshot(trainee)
    step(trainee, batch(), rate=0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, trainee[0].state_dict().values(), strict=False))
    step(trainee, batch(), rate=1e-3)
    assert 0 < float((before[0] - trainee[0].prototype_token).detach().abs().max()) < 3e-3


def test_the_total_reported_is_the_sum_of_its_terms(trainee: Trainee) -> None:
    done = step(trainee, batch())
    assert float(done.total) == pytest.approx(float(done.soft_mining) + 0.2 * float(done.coherence))
    assert not done.total.requires_grad


def test_bfloat16_is_close_to_float32(trainee: Trainee) -> None:
    full = step(trainee, batch(), rate=0.0)
    half = step(trainee, batch(), rate=0.0, autocast=True)
    assert half.total.dtype == torch.float32
    assert float(half.total) == pytest.approx(float(full.total), rel=0.02)
    assert float(half.total) != float(full.total)
