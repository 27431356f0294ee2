"""How far what PNPT rebuilds points away from the encoder's levels: its loss, and its map."""

import torch
import torch.nn.functional as F
from torch import Tensor

from inpformer.images.frame import MAP_SIZE
from inpformer.methods.pnpt.network import Decoded
from inpformer.nn.maps import smoothed
from inpformer.nn.precision import precise

SIGMA = 4.0  # pixels of the map


def angles(decoded: Decoded) -> list[Tensor]:
    """1 - the cosine of each place's channels with what is rebuilt of them, by level: [B, h, h] each, from 0 to 2."""
    return [
        1 - F.cosine_similarity(precise(target), precise(rebuilt), dim=1)
        for target, rebuilt in zip(decoded.target, decoded.rebuilt, strict=True)
    ]


def angle_map(decoded: Decoded) -> Tensor:
    """The levels' angles, each resized, their sum smoothed: [B, 256, 256]."""
    large = [
        F.interpolate(one[:, None], (MAP_SIZE, MAP_SIZE), mode="bilinear", align_corners=False)
        for one in angles(decoded)
    ]
    return smoothed(torch.cat(large, dim=1).sum(dim=1), SIGMA)
