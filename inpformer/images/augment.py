"""The 22 fixed forms in which few-shot training sees each image (INP-Former's few-shot setting): no chance in it, so
each form goes through the frozen encoder once.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Augmentation = Callable[[Tensor], Tensor]
ANGLES = tuple(sign * step * math.pi / 16 for step in (1, 2, 3, 4) for sign in (1, -1))
# In halves of the picture's side: grid_sample's coordinates run from -1 to 1.
SHIFTS = tuple((x * size, y * size) for size in (0.1, 0.2) for x in (1, -1) for y in (1, -1))
GREY = (0.299, 0.587, 0.114)


def augmentations() -> list[Augmentation]:
    """Each maps [3, S, S], cropped and normalised, to the same shape; the first leaves it as it is."""
    return [
        lambda x: x,
        *(_rotation(angle) for angle in ANGLES),
        *(_shift(x, y) for x, y in SHIFTS),
        lambda x: x.flip(-1),
        _grey,
        *(_quarter_turns(number) for number in (1, 2, 3)),
    ]


def _rotation(angle: float) -> Augmentation:
    cos, sin = math.cos(angle), math.sin(angle)
    return lambda x: _warp(x, [[cos, -sin, 0.0], [sin, cos, 0.0]])


def _shift(x_shift: float, y_shift: float) -> Augmentation:
    return lambda x: _warp(x, [[1.0, 0.0, x_shift], [0.0, 1.0, y_shift]])


def _quarter_turns(number: int) -> Augmentation:
    return lambda x: torch.rot90(x, number, (-2, -1))


def _warp(image: Tensor, matrix: list[list[float]]) -> Tensor:
    grid = F.affine_grid(torch.tensor([matrix]), [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, padding_mode="reflection", align_corners=False)[0]


def _grey(image: Tensor) -> Tensor:
    grey = (image * torch.tensor(GREY)[:, None, None]).sum(dim=0, keepdim=True)
    return grey.expand_as(image).clone()
