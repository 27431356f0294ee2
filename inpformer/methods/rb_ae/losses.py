"""RB-AE's losses: perception of defects and reconstruction of what is good, then, of the head, focal loss.

Shapes: B images, h × h places of a level, `shares` [B, h, h] of each place that is defective, from 0 to 1. Each is a
mean over images, so that workers can share a batch. All are computed in 32 bit or more.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from inpformer.nn.precision import precise

MARGIN = 1.0  # between what is found of a defect and what it is repaired to: a cosine of 0
WINDOW = 3  # places a side that SSIM compares; a level has few
SPAN = 6.0  # of a standardised channel: three deviations to each side
C1, C2 = (0.01 * SPAN) ** 2, (0.03 * SPAN) ** 2  # SSIM's own shares of the span
SMALLEST = 1e-6  # of a sum of weights that is divided by
FOCUS = 2  # γ of the focal loss


def shares_of(masks: Tensor, side: int) -> Tensor:
    """Masks [B, 256, 256] to the shares of a level of `side` places a side."""
    return F.adaptive_avg_pool2d(masks[:, None], side)[:, 0]


def perception_loss(found: Tensor, repaired: Tensor, shares: Tensor) -> Tensor:
    """The distance 1 - cos(found, repaired) of [B, W, h, h] is to be 0 where a place is good, and MARGIN at least where
    it is defective: of an image the mean over good places plus the mean over defective ones, however few these are.
    """
    distance = 1 - F.cosine_similarity(precise(found), precise(repaired), dim=1)
    lacking = F.relu(MARGIN - distance)
    return (weighted(distance, 1 - shares) + weighted(lacking, shares)).mean()


def squared_loss(target: Tensor, rebuilt: Tensor, shares: Tensor) -> Tensor:
    """The mean squared error of [B, C, h, h] where places are good."""
    return weighted((precise(target) - precise(rebuilt)).square().mean(dim=1), 1 - shares).mean()


def structure_loss(target: Tensor, rebuilt: Tensor, shares: Tensor) -> Tensor:
    """1 - SSIM of [B, C, h, h], channel by channel, over the windows; one that has a defect in it counts as little as
    its best place does.
    """
    window = min(WINDOW, shares.shape[-1])
    free = 1 - F.max_pool2d(shares[:, None], window, 1)[:, 0]
    return weighted(1 - ssim(precise(target), precise(rebuilt), window).mean(dim=1), free).mean()


def ssim(one: Tensor, other: Tensor, window: int) -> Tensor:
    """The structural similarity of standardised [B, C, h, h] in each window inside them: [B, C, h - window + 1, same].

    Wang et al. 2004, equation 13, with a window whose places count alike.
    """

    def mean(grid: Tensor) -> Tensor:
        return F.avg_pool2d(grid, window, 1)

    mean1, mean2 = mean(one), mean(other)
    variance1, variance2 = mean(one.square()) - mean1.square(), mean(other.square()) - mean2.square()
    covariance = mean(one * other) - mean1 * mean2
    luminance = (2 * mean1 * mean2 + C1) / (mean1.square() + mean2.square() + C1)
    return luminance * (2 * covariance + C2) / (variance1 + variance2 + C2)


def weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Of each image the weighted mean of values [B, h, h], 0 where nothing has a weight: [B]."""
    values, weights = values.flatten(1), precise(weights).flatten(1)
    return (values * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=SMALLEST)


def focal_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """The mean over pixels of -(1 - p)^γ·ln p, where p is the probability of what a pixel is (Lin et al. 2017, equation
    4). Logits [B, h, w] are brought to the size of the `masks` [B, H, W] of 0 and 1.
    """
    large = F.interpolate(precise(logits)[:, None], masks.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    surprise = F.binary_cross_entropy_with_logits(large, masks, reduction="none")
    return ((1 - (-surprise).exp()) ** FOCUS * surprise).mean()


def over_levels(losses: Sequence[Tensor]) -> Tensor:
    """The mean over levels."""
    return torch.stack(list(losses)).mean()
