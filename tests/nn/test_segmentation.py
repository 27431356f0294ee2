"""The segmentation head and what it learns by."""

import pytest
import torch

from inpformer.nn.segmentation import SegmentationHead, dice_loss, probabilities


def test_dice_is_its_formula() -> None:
    found = torch.tensor([[[0.5, 1.0], [0.0, 0.25]], [[0.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    masks = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    # 2·1.5 + 1 over 1.75 + 2 + 1, and nothing found where nothing is: 1 / 1.
    assert float(dice_loss(found, masks)) == pytest.approx(((1 - 4 / 4.75) + 0) / 2)
    assert float(dice_loss(1 - masks, masks)) > 0.6
    assert torch.autograd.gradcheck(dice_loss, (found.requires_grad_(), masks))


def test_the_head_has_the_gradient_of_its_value() -> None:
    torch.manual_seed(0)
    grid = torch.randn(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    head = SegmentationHead(3, (2, 2)).double()
    assert torch.autograd.gradcheck(head, (grid,))


def test_probabilities_are_as_large_as_masks() -> None:
    logits = torch.tensor([[[-3.0, -3.0], [3.0, 3.0]]], dtype=torch.bfloat16)
    found = probabilities(logits)
    assert (found.shape, found.dtype) == ((1, 256, 256), torch.float32)
    low = float(torch.tensor(-3.0).sigmoid())
    assert found[0, [0, -1], 7].tolist() == pytest.approx([low, 1 - low])
