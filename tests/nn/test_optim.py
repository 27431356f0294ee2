"""StableAdamW against PyTorch's AdamW and by hand; the learning rate by iteration."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from inpformer.nn.optim import OPTIMIZER_SLOTS, StableAdamW, learning_rate

STEPS = 6


def gradients(seed: int = 0) -> list[Tensor]:
    """Each smaller than the one before, so that update clipping has nothing to do and amsgrad has."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    return [first * 0.8**i * (1 - 0.1 * torch.rand(first.shape, generator=generator)) for i in range(STEPS)]


def descend(optimizer: torch.optim.Optimizer, weight: Tensor, steps: list[Tensor]) -> Tensor:
    for gradient in steps:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


def start() -> Tensor:
    return torch.linspace(-1, 1, 35, dtype=torch.float64).view(5, 7).clone().requires_grad_()


def test_without_clipping_it_is_adamw_with_amsgrad() -> None:
    options = {"lr": 1e-2, "betas": (0.9, 0.5), "eps": 1e-10, "weight_decay": 0.1}
    ours, theirs = start(), start()
    result = descend(StableAdamW([ours], **options), ours, gradients())
    expected = descend(torch.optim.AdamW([theirs], amsgrad=True, **options), theirs, gradients())
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    assert (result - start()).abs().min() > 1e-3


def test_a_sudden_gradient_is_clipped_by_hand() -> None:
    weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = StableAdamW([weight], lr=1e-3, weight_decay=0)
    descend(optimizer, weight, [torch.ones_like(weight), torch.full_like(weight, 10.0)])
    first = 1.0  # g / sqrt(g²), whatever g is
    denominator = math.sqrt((0.999 * 0.001 + 0.001 * 100) / (1 - 0.999**2))  # 7.1, so 10 is 1.4 times too much
    second = (0.9 * 0.1 + 0.1 * 10) / (1 - 0.9**2) / denominator / (10 / denominator)
    assert weight.tolist() == pytest.approx([-1e-3 * (first + second)] * 2)


def test_a_spike_moves_less_than_in_adamw() -> None:
    spike = [*gradients(), 1000 * gradients()[0]]
    ours, theirs = start(), start()
    options = {"lr": 1e-2, "eps": 1e-10, "weight_decay": 0.0}
    before = descend(StableAdamW([start()], **options), start(), [])
    moved = descend(StableAdamW([ours], **options), ours, spike) - before
    wild = descend(torch.optim.AdamW([theirs], amsgrad=True, **options), theirs, spike) - before
    assert moved.abs().max() < wild.abs().max()


def test_clipping_is_a_tensors_own() -> None:
    calm, calm_alone, wild = start(), start(), start()
    together, alone = StableAdamW([calm, wild]), StableAdamW([calm_alone])
    for number, gradient in enumerate(gradients()):
        calm.grad, wild.grad, calm_alone.grad = gradient, gradient * 100**number, gradient.clone()
        together.step()
        alone.step()
    assert torch.equal(calm, calm_alone)


def test_all_tensors_at_once_is_each_of_them_alone() -> None:
    """What a GPU is given, and what a CPU is."""
    wholes, parts = [[start().float().detach()[:n].requires_grad_() for n in (5, 3, 1)] for _ in range(2)]
    whole, apart = StableAdamW(wholes), StableAdamW(parts)
    for number, gradient in enumerate(gradients()):
        for one, other in zip(wholes, parts, strict=True):
            one.grad = gradient.float()[: len(one)] * 30 ** (number * len(one) % 4)  # some are clipped
            other.grad = one.grad.clone()
        with torch.no_grad():
            whole._update(wholes, whole.param_groups[0])
        apart.step()
    assert all(torch.equal(one, other) for one, other in zip(wholes, parts, strict=True))
    assert all(not torch.equal(one, start().float()[: len(one)]) for one in wholes)


def test_weight_decay_is_decoupled() -> None:
    weight = torch.full((3,), 2.0, requires_grad=True)
    descend(StableAdamW([weight], lr=0.1, weight_decay=0.5), weight, [torch.zeros(3)])
    assert weight.tolist() == pytest.approx([2 * (1 - 0.1 * 0.5)] * 3)


def test_a_parameter_without_gradient_is_left_alone() -> None:
    used, unused = start(), start()
    descend(StableAdamW([used, unused]), used, gradients())
    assert torch.equal(unused, start())


def test_the_saved_state_continues_where_it_stopped() -> None:
    straight, stopped = start(), start()
    descend(StableAdamW([straight]), straight, gradients())
    first = StableAdamW([stopped])
    descend(first, stopped, gradients()[:3])
    second = StableAdamW([stopped])
    second.load_state_dict(first.state_dict())
    assert set(second.state[stopped]) == {"step", *OPTIMIZER_SLOTS}
    descend(second, stopped, gradients()[3:])
    assert torch.equal(straight, stopped)


@pytest.mark.parametrize(
    ("iteration", "rate"),
    [(0, 0.0), (1, 1e-3 / 99), (99, 1e-3), (100, 1e-3), (550, 5.5e-4), (1000, 1e-4)],
)
def test_learning_rate_at_its_corners(iteration: int, rate: float) -> None:
    assert learning_rate(iteration, total=1000) == pytest.approx(rate, rel=1e-12)


def test_learning_rate_changes_every_iteration() -> None:
    rates = [learning_rate(i, 300, base=0.01, final=0.001, warmup=20) for i in range(301)]
    assert rates[:20] == pytest.approx([0.01 * i / 19 for i in range(20)])
    assert all(after < before for before, after in pairwise(rates[20:]))
    assert rates[-1] == pytest.approx(0.001)


@pytest.mark.parametrize(("total", "warmup"), [(1, 100), (10, 10), (5, 0), (1, 1)])
def test_short_runs_have_a_learning_rate_too(total: int, warmup: int) -> None:
    assert all(0 <= learning_rate(i, total, warmup=warmup) <= 1e-3 for i in range(total + 1))
