"""Masks in the store are what went in."""

import torch

from inpformer.features.masks import MASK_LEVEL, pack_masks, unpack_masks


def test_a_mask_survives_the_store_exactly() -> None:
    masks = torch.rand(3, 256, 256, generator=torch.Generator().manual_seed(0)) > 0.5
    masks[1], masks[2] = False, True
    packed = pack_masks(masks)
    assert packed.dtype == torch.float16
    assert packed.shape == (3, MASK_LEVEL.tokens, MASK_LEVEL.channels)
    assert packed.numel() * 2 == 3 * 16384  # bytes: a quarter of a byte a pixel
    assert torch.equal(unpack_masks(packed), masks.float())
