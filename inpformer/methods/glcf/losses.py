"""GLCF's three losses, and its maps: what two of its estimates of an image disagree on."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from inpformer.methods.glcf.network import Estimates
from inpformer.nn.precision import precise


def losses(found: Estimates) -> tuple[Tensor, Tensor, Tensor]:
    """Scalars, of which the mean of a batch's images is taken: the local estimate of the target, the global one of the
    target, and what is expected of the global one, which learns from this too.
    """
    return (
        distance(found.target, found.local),
        distance(found.whole, found.target),
        distance(found.whole, found.expected),
    )


def distance(ones: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """The sum over levels of 1 - the cosine of all of an image's C·n·n numbers; the mean over images."""
    cosines = [
        F.cosine_similarity(precise(one).flatten(1), precise(other).flatten(1), dim=1)
        for one, other in zip(ones, others, strict=True)
    ]
    return (1 - torch.stack(cosines)).sum(dim=0).mean()


def raw_maps(found: Estimates, size: int) -> Tensor:
    """The local and the global branch's map of each level: [B, 2, levels, size, size]."""
    branches = [_differences(found.target, found.local, size), _differences(found.whole, found.expected, size)]
    return torch.stack(branches, dim=1)


def _differences(ones: Sequence[Tensor], others: Sequence[Tensor], size: int) -> Tensor:
    """1 - the cosine of each place, by level, on a grid of that size: [B, levels, size, size]."""
    grids = (
        1 - F.cosine_similarity(precise(one), precise(other), dim=1) for one, other in zip(ones, others, strict=True)
    )
    large = [F.interpolate(grid[:, None], (size, size), mode="bilinear", align_corners=True) for grid in grids]
    return torch.cat(large, dim=1)


def fused(maps: Tensor, mean: Tensor, std: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of standardised maps: [B, 2, levels, H, W], and [2, levels] each, give [B, H, W]."""
    standard = (maps - mean[..., None, None]) / std[..., None, None]
    return (weights[..., None, None] * standard).sum(dim=(1, 2))
