"""Masks in a feature store: one more level of a view, eight pixels a number, which 16 bit hold exactly."""

import torch
from torch import Tensor

from inpformer.encoders.shapes import Level
from inpformer.images.frame import MAP_SIZE

PIXELS_A_NUMBER = 8
MASK_LEVEL = Level(MAP_SIZE // 4, MAP_SIZE**2 // PIXELS_A_NUMBER // (MAP_SIZE // 4) ** 2)


def pack_masks(masks: Tensor) -> Tensor:
    """[B, 256, 256] of true and false to [B, N, C] of MASK_LEVEL, float16."""
    numbers = (masks.reshape(len(masks), -1, PIXELS_A_NUMBER) * _bits(masks.device)).sum(dim=-1)
    return numbers.view(-1, MASK_LEVEL.tokens, MASK_LEVEL.channels).to(torch.float16)


def unpack_masks(level: Tensor) -> Tensor:
    """What `pack_masks` packed, [B, 256, 256] float32 of 0 and 1."""
    numbers = level.long().reshape(len(level), -1, 1)
    return ((numbers & _bits(level.device)) > 0).float().view(-1, MAP_SIZE, MAP_SIZE)


def _bits(device: torch.device) -> Tensor:
    """What each pixel of a number counts, made on the device: a copy to a GPU would be waited for."""
    return 2 ** torch.arange(PIXELS_A_NUMBER - 1, -1, -1, device=device)
