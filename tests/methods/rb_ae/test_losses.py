"""RB-AE's losses by numbers worked out by hand and, for SSIM, by loops."""

from math import exp, log, sqrt

import pytest
import torch
from torch import Tensor

from inpformer.methods.rb_ae.losses import (
    C1,
    C2,
    focal_loss,
    perception_loss,
    shares_of,
    squared_loss,
    ssim,
    structure_loss,
    weighted,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grid(*vectors: tuple[float, float]) -> Tensor:
    """Four places of two channels: [1, 2, 2, 2]."""
    return torch.tensor(vectors, dtype=torch.float64).T.reshape(1, 2, 2, 2)


def test_a_place_s_share_is_that_of_its_pixels() -> None:
    masks = torch.zeros(2, 256, 256)
    masks[0, :64, :32] = 1
    assert shares_of(masks, 2).tolist() == [[[0.125, 0], [0, 0]], [[0, 0], [0, 0]]]
    assert shares_of(masks, 8)[0, :, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_perception_brings_good_places_together_and_defects_apart() -> None:
    """Cosines of 1, 0, -1 and √½, whatever the lengths."""
    found, repaired = grid((1, 0), (2, 0), (1, 0), (3, 0)), grid((5, 0), (0, 1), (-2, 0), (1, 1))
    cosines = [1.0, 0.0, -1.0, sqrt(0.5)]
    good = torch.zeros(1, 2, 2, dtype=torch.float64)
    assert float(perception_loss(found, repaired, good)) == pytest.approx(sum(1 - one for one in cosines) / 4)
    # Defective, the first two lack 1 and 0 of the margin, the third is farther; the fourth is good.
    shares = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
    assert float(perception_loss(found, repaired, shares)) == pytest.approx((1 - sqrt(0.5)) + (1 + 0 + 0) / 3)
    # A quarter of the last place alone: it counts as a defect in full, as a good place less.
    shares = torch.tensor([[[0.0, 0.0], [0.0, 0.25]]], dtype=torch.float64)
    near = (0 + 1 + 2 + 0.75 * (1 - sqrt(0.5))) / 3.75
    assert float(perception_loss(found, repaired, shares)) == pytest.approx(near + sqrt(0.5))
    # An image whose every place is defective has no good ones.
    assert float(perception_loss(found, repaired, good + 1)) == pytest.approx((1 + sqrt(0.5)) / 4)


def test_losses_are_means_over_images() -> None:
    found, repaired, shares = noise(3, 4, 5, 5), noise(3, 4, 5, 5, seed=1), torch.rand(3, 5, 5).double()
    for loss in (perception_loss, squared_loss, structure_loss):
        each = [loss(found[n : n + 1], repaired[n : n + 1], shares[n : n + 1]) for n in range(3)]
        torch.testing.assert_close(loss(found, repaired, shares), torch.stack(each).mean())
        assert torch.autograd.gradcheck(loss, (found[:1].requires_grad_(), repaired[:1].requires_grad_(), shares[:1]))


def test_the_squared_error_is_that_of_good_places() -> None:
    target, rebuilt = grid((1, 1), (0, 0), (0, 0), (9, 9)), grid((1, 3), (0, 0), (1, 1), (0, 0))
    shares = torch.tensor([[[0.0, 0.0], [0.5, 1.0]]], dtype=torch.float64)
    assert float(squared_loss(target, rebuilt, shares)) == pytest.approx((2 + 0 + 0.5 * 1) / 2.5)
    assert float(squared_loss(target, rebuilt, shares * 0 + 1)) == 0


def test_ssim_is_its_formula_in_every_window() -> None:
    one, other = noise(2, 3, 5, 5), noise(2, 3, 5, 5, seed=1)
    found = ssim(one, other, 3)
    assert found.shape == (2, 3, 3, 3)
    for image in range(2):
        for channel in range(3):
            for row in range(3):
                for column in range(3):
                    x, y = (
                        [float(g[image, channel, row + a, column + b]) for a in range(3) for b in range(3)]
                        for g in (one, other)
                    )
                    mx, my = sum(x) / 9, sum(y) / 9
                    vx, vy = sum((v - mx) ** 2 for v in x) / 9, sum((v - my) ** 2 for v in y) / 9
                    both = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / 9
                    above = (2 * mx * my + C1) * (2 * both + C2)
                    expected = above / ((mx**2 + my**2 + C1) * (vx + vy + C2))
                    assert float(found[image, channel, row, column]) == pytest.approx(expected)


def test_the_structure_of_windows_with_a_defect_does_not_count() -> None:
    target = noise(1, 2, 6, 6)
    rebuilt = target.clone()
    assert float(structure_loss(target, rebuilt, torch.zeros(1, 6, 6))) == pytest.approx(0, abs=1e-12)
    rebuilt[:, :, 0, 0] += 5
    shares = torch.zeros(1, 6, 6)
    assert float(structure_loss(target, rebuilt, shares)) == pytest.approx(
        float(1 - ssim(target, rebuilt, 3)[0, :, 0, 0].mean()) / 16
    )
    shares[0, 0, 0] = 1
    assert float(structure_loss(target, rebuilt, shares)) == pytest.approx(0, abs=1e-12)


def test_a_grid_smaller_than_the_window_is_one_window() -> None:
    target, rebuilt = noise(1, 2, 2, 2), noise(1, 2, 2, 2, seed=1)
    expected = 1 - ssim(target, rebuilt, 2).mean()
    torch.testing.assert_close(structure_loss(target, rebuilt, torch.zeros(1, 2, 2)), expected)


def test_focal_is_its_formula() -> None:
    logits = torch.tensor([[[-2.0, 0.5], [3.0, 0.0]]], dtype=torch.float64)
    masks = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    right = [1 - 1 / (1 + exp(2)), 1 / (1 + exp(-0.5)), 1 - 1 / (1 + exp(-3)), 0.5]
    assert float(focal_loss(logits, masks)) == pytest.approx(sum(-((1 - p) ** 2) * log(p) for p in right) / 4)
    assert torch.autograd.gradcheck(lambda one: focal_loss(one, masks), (logits.requires_grad_(),))
    assert float(focal_loss(torch.full((1, 8, 8), -50.0, dtype=torch.bfloat16), torch.zeros(1, 256, 256))) == 0
    far = focal_loss(torch.full((1, 8, 8), -50.0, dtype=torch.bfloat16), torch.ones(1, 256, 256))
    assert float(far) == pytest.approx(50)  # where a probability would have rounded to 0


def test_nothing_weighs_nothing() -> None:
    values = torch.tensor([[[1.0, 3.0]], [[5.0, 7.0]]])
    assert weighted(values, torch.tensor([[[1.0, 3.0]], [[0.0, 0.0]]])).tolist() == [2.5, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_16_bit_hold_is_compared_in_32(dtype: torch.dtype) -> None:
    found = (200 * torch.ones(1, 64, 3, 3)).to(dtype)  # whose squares, added, are beyond 16 bit
    for loss in (perception_loss, squared_loss, structure_loss):
        value = loss(found, -found, torch.zeros(1, 3, 3))
        assert value.dtype == torch.float32
        assert torch.isfinite(value)
    assert float(perception_loss(found, -found, torch.zeros(1, 3, 3))) == pytest.approx(2)
