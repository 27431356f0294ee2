"""Soft mining and coherence against their definitions."""

from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from inpformer.errors import UserError
from inpformer.methods.inp_former.losses import (
    coherence_loss,
    distance_maps,
    losses,
    nearest_prototype_distance,
    reconstruction_loss,
    soft_mining_loss,
)
from inpformer.methods.inp_former.network import Reconstruction
from inpformer.methods.inp_former.settings import LossSettings


def pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(3, 2, 9, 8, generator=generator)
    decoded = target + torch.rand(3, 2, 9, 1, generator=generator) * torch.randn(3, 2, 9, 8, generator=generator)
    return target, decoded.requires_grad_()


def plain_loss(target: Tensor, decoded: Tensor) -> Tensor:
    """One cosine over all the numbers of an image and group, written out."""
    a, b = target.flatten(2), decoded.flatten(2)
    return (1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))).mean()


def gradient(loss: Tensor, decoded: Tensor) -> Tensor:
    return torch.autograd.grad(loss, decoded)[0]


@pytest.mark.parametrize("power", [0.0, 1.0, 3.0])
def test_soft_mining_has_the_value_of_the_plain_loss(power: float) -> None:
    target, decoded = pair()
    expected = plain_loss(target, decoded)
    torch.testing.assert_close(soft_mining_loss(target, decoded, power), expected)
    torch.testing.assert_close(reconstruction_loss(target, decoded), expected)


@pytest.mark.parametrize("power", [0.0, 1.0, 3.0])
def test_soft_mining_scales_the_gradient_token_by_token(power: float) -> None:
    target, decoded = pair()
    distance = 1 - F.cosine_similarity(target, decoded.detach(), dim=-1)
    weight = (distance / distance.mean(dim=(0, 2), keepdim=True)) ** power
    assert power == 0 or weight.max() > 2 * weight.min()
    expected = weight[..., None] * gradient(plain_loss(target, decoded), decoded)
    torch.testing.assert_close(gradient(soft_mining_loss(target, decoded, power), decoded), expected)


def test_a_perfect_reconstruction_has_no_loss_and_no_gradient() -> None:
    target = torch.eye(9).expand(3, 2, 9, 9)  # its cosines are exact, so the mean distance is 0
    decoded = target.clone().requires_grad_()
    loss = soft_mining_loss(target, decoded, 3)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert float(gradient(loss, decoded).abs().max()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype: torch.dtype) -> None:
    target = torch.randn(1, 1, 50, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    decoded = target.clone()
    decoded[0, 0, 0] *= -1  # fifty times the mean distance: the cube of that is beyond 16 bit
    decoded.requires_grad_()
    loss = soft_mining_loss(target, decoded, 3)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient(loss, decoded)).all()


def test_nothing_flows_into_the_target() -> None:
    target, decoded = pair()
    target.requires_grad_()
    soft_mining_loss(target, decoded, 3).backward()
    assert target.grad is None
    assert decoded.grad is not None


def test_coherence_by_hand() -> None:
    tokens = torch.tensor([[[2.0, 0.0], [0.0, 3.0]], [[-1.0, 0.0], [5.0, 5.0]]])
    prototypes = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]).expand(2, -1, -1)
    expected = torch.tensor([[0.0, 1 - sqrt(0.5)], [1 + sqrt(0.5), 0.0]])
    torch.testing.assert_close(nearest_prototype_distance(tokens, prototypes), expected)
    assert float(coherence_loss(tokens, prototypes)) == pytest.approx(0.5)


def test_distance_maps_by_hand() -> None:
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])[None, None]
    decoded = torch.tensor([[3.0, 0.0], [0.0, 1.0], [-2.0, 0.0]])[None, None]
    torch.testing.assert_close(distance_maps(target, decoded), torch.tensor([[[0.0, 1.0, 2.0]]]))


def test_the_total_is_mining_plus_lambda_times_coherence() -> None:
    target, decoded = pair()
    fused, prototypes = target.mean(dim=1), torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(1))
    loss = losses(Reconstruction(target, fused, prototypes, decoded), LossSettings(0.7, 2.0))
    torch.testing.assert_close(loss.soft_mining, plain_loss(target, decoded))
    torch.testing.assert_close(loss.coherence, coherence_loss(fused, prototypes))
    torch.testing.assert_close(loss.total, loss.soft_mining + 0.7 * loss.coherence)


def test_the_defaults_are_the_papers() -> None:
    assert LossSettings() == LossSettings(coherence_weight=0.2, mining_power=3.0)


@pytest.mark.parametrize(("key", "value"), [("coherence_weight", -0.1), ("mining_power", -1.0), ("mining_power", 17.0)])
def test_impossible_settings_are_refused(key: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^{key} is {value}: it must be"):
        LossSettings(**{key: value})
