"""How anomalous a patch is by its distances to the nearest normal ones, and a picture by its patches (SCL-VI)."""

import torch
from torch import Tensor

# 1 / a neighbour's share of all distances that is above the first counts as the second.
LARGEST, INSTEAD = 20.0, 15.0


def affinity(distances: Tensor) -> Tensor:
    """The mean of each patch's distances [..., k], those of near neighbours weighed more: [...]. One that is among the
    normal patches scores 0.
    """
    total = distances.sum(dim=-1, keepdim=True)
    closeness = total / distances
    weights = torch.where(closeness > LARGEST, INSTEAD, closeness).softmax(dim=-1)
    return torch.where(distances.amin(dim=-1) > 0, (weights * distances).sum(dim=-1), 0)


def spread_out(scores: Tensor, size: int, stride: int, side: int) -> Tensor:
    """Scores of patches [B, n, n] of `size` pixels, `stride` apart, to pixels [B, S, S]: the mean over the patches that
    cover a pixel.
    """
    pixel = torch.arange(side, device=scores.device)[:, None]
    first = stride * torch.arange(scores.shape[-1], device=scores.device)
    covers = ((first <= pixel) & (pixel < first + size)).to(scores.dtype)
    share = covers / covers.sum(dim=1, keepdim=True)  # which patches cover a pixel is a matter of row and of column
    return share @ scores @ share.T
