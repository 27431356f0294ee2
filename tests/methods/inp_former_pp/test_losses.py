"""Each term of INP-Former++ against its formula written out, its gradient, and what it is for."""

from math import exp

import pytest
import torch
from torch import Tensor

from inpformer.methods.inp_former.losses import coherence_loss, soft_mining_loss
from inpformer.methods.inp_former.network import Reconstruction
from inpformer.methods.inp_former_pp.head import residual
from inpformer.methods.inp_former_pp.losses import (
    soft_coherence_loss,
    squared_errors,
    squared_mining_loss,
    two_branch_mining_loss,
)
from inpformer.nn.segmentation import SegmentationHead

ONE = torch.ones(1, dtype=torch.float64)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair() -> tuple[Tensor, Tensor]:
    """Targets and reconstructions [3, 2, 4, 5], some tokens far worse than others."""
    target = numbers(3, 2, 4, 5)
    worse = torch.linspace(0.1, 2, 4, dtype=torch.float64)[:, None]
    return target, (target + worse * numbers(3, 2, 4, 5, seed=1)).requires_grad_()


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()))


def test_soft_coherence_is_its_formula() -> None:
    tokens, prototypes = numbers(2, 4, 5), numbers(2, 3, 5, seed=1)
    expected = 0.0
    for x, p in zip(tokens, prototypes, strict=True):
        mixed = torch.zeros_like(x)
        for i, token in enumerate(x):
            weights = [exp(cosine(token, one)) for one in p]
            for weight, one in zip(weights, p, strict=True):
                mixed[i] += weight / sum(weights) * one
        expected += (1 - cosine(x.flatten(), mixed.flatten())) / 2
    assert float(soft_coherence_loss(tokens, prototypes)) == pytest.approx(expected, rel=1e-12)


def test_soft_coherence_has_the_gradient_of_its_value() -> None:
    tokens, prototypes = numbers(2, 4, 5).requires_grad_(), numbers(2, 3, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(soft_coherence_loss, (tokens, prototypes))


def test_tokens_on_one_prototype_cost_nothing_by_the_nearest_and_something_by_the_soft_loss() -> None:
    prototypes = torch.eye(6, dtype=torch.float64)[:3].expand(2, 3, 6)
    collapsed = prototypes[:, :1].expand(2, 4, 6)
    assert float(coherence_loss(collapsed, prototypes)) == pytest.approx(0, abs=1e-12)
    # w = (e, 1, 1) / (e + 2), so the cosine of x and x̂ is e / √(e² + 2).
    assert float(soft_coherence_loss(collapsed, prototypes)) == pytest.approx(1 - exp(1) / (exp(2) + 2) ** 0.5)
    # It is free only where all prototypes say the same.
    assert float(soft_coherence_loss(collapsed, collapsed[:, :3])) == pytest.approx(0, abs=1e-12)


def test_squared_mining_has_the_mean_squared_error_as_its_value() -> None:
    target, held = pair()[0], pair()[1].detach()
    expected = ((target - held) ** 2).sum() / target.numel()
    for power in (0.0, 3.0):
        assert float(squared_mining_loss(target, held, ONE, power)) == pytest.approx(float(expected), rel=1e-12)
    assert float(squared_mining_loss(target, held, 2 * ONE, 3.0)) == pytest.approx(float(expected) / 4, rel=1e-12)


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_each_branch_scales_its_gradient_by_its_own_errors(power: float) -> None:
    target, decoded = pair()
    held = decoded.detach()
    errors = ((target - held) ** 2).mean(dim=-1)
    weights = (errors / errors.mean(dim=(0, 2), keepdim=True)) ** power
    assert weights.max() > 3 * weights.min()
    expected = weights[..., None] * 2 * (held - target) / target.numel()
    (found,) = torch.autograd.grad(squared_mining_loss(target, decoded, ONE, power), decoded)
    torch.testing.assert_close(found, expected)
    # Together they are the sum: neither branch's weights reach the other's gradient.
    (cosine_alone,) = torch.autograd.grad(soft_mining_loss(target, decoded, power), decoded)
    both = two_branch_mining_loss(target, decoded, ONE, power, 0.5, 2.0)
    (together,) = torch.autograd.grad(both, decoded)
    torch.testing.assert_close(together, 0.5 * cosine_alone + 2 * expected)


def test_the_squared_branch_may_leave_channels_out() -> None:
    target, decoded = pair()
    part = two_branch_mining_loss(target, decoded, ONE, 3.0, 1.0, 2.0, -1)
    squared = squared_mining_loss(target[..., :-1], decoded[..., :-1], ONE, 3.0)
    torch.testing.assert_close(part, soft_mining_loss(target, decoded, 3.0) + 2 * squared)


def test_without_mining_the_branches_have_the_gradients_of_their_values() -> None:
    target, decoded = pair()

    def loss(rebuilt: Tensor) -> Tensor:
        return two_branch_mining_loss(target, rebuilt, ONE, 0.0, 0.7, 1.3)

    assert torch.autograd.gradcheck(loss, (decoded,))


def test_a_branch_of_weight_zero_is_left_out() -> None:
    target, decoded = pair()
    alone = two_branch_mining_loss(target, decoded, ONE, 3.0, 1.0, 0.0)
    torch.testing.assert_close(alone, soft_mining_loss(target, decoded, 3.0))
    alone = two_branch_mining_loss(target, decoded, ONE, 3.0, 0.0, 1.0)
    torch.testing.assert_close(alone, squared_mining_loss(target, decoded, ONE, 3.0))


def test_the_residual_is_distance_times_difference_on_the_grid() -> None:
    target, decoded = numbers(2, 3, 4, 5), numbers(2, 3, 4, 5, seed=1)
    found = residual(Reconstruction(target, target[:, 0], target[:, 0], decoded), 2 * ONE)
    assert found.shape == (2, 5, 2, 2)
    for image in range(2):
        for place in range(4):
            parts = [
                (1 - cosine(target[image, g, place], decoded[image, g, place]))
                * (target[image, g, place] - decoded[image, g, place]).abs()
                / 2
                for g in range(3)
            ]
            torch.testing.assert_close(found[image, :, place // 2, place % 2], sum(parts) / 3)


def test_the_head_sends_nothing_back_into_the_reconstruction() -> None:
    target, decoded = numbers(1, 1, 4, 5).float(), numbers(1, 1, 4, 5, seed=1).float().requires_grad_()
    head = SegmentationHead(5, (4, 3))
    logits = head(residual(Reconstruction(target, target[:, 0], target[:, 0], decoded), ONE.float()))
    assert logits.shape == (1, 8, 8)
    logits.sum().backward()
    assert decoded.grad is None
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite(dtype: torch.dtype) -> None:
    target = numbers(1, 1, 50, 8).to(dtype)
    decoded = target.clone()
    decoded[0, 0, 0] *= -8  # fifty times the mean error: the cube of that is beyond 16 bit
    decoded.requires_grad_()
    unit = torch.ones(1)
    loss = two_branch_mining_loss(target, decoded, unit, 3.0, 1.0, 1.0)
    assert loss.dtype == torch.float32
    assert torch.isfinite(torch.autograd.grad(loss, decoded)[0]).all()
    assert squared_errors(target, decoded, unit).dtype == torch.float32
