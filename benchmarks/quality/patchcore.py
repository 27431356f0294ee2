"""PatchCore to compare with: our own, from its paper (Roth et al., "Towards total recall in industrial anomaly
detection", CVPR 2022), on the same network and weights as the methods.

Strides 8 and 16, each pooled 3x3, side by side on the finer grid; a coreset of 10 % of the training tokens (farthest
points, of at most 65 536 candidates); the distance to the nearest one; the image score is the largest distance, weighed
by how far that token's nearest neighbours in the coreset are from each other. Channels are neither standardised nor
projected.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from inpformer.nn.coreset import farthest_points, sample
from inpformer.nn.maps import to_map

CORESET = 0.1
NEIGHBOURS = 9
TOKENS_AT_A_TIME = 1024


class PatchCore:
    """`levels` are those at strides 8 and 16, each [B, N, C]."""

    def __init__(self, batches: Iterable[Sequence[Tensor]], seed: int) -> None:
        candidates, count = sample((tokens(levels).flatten(0, 1) for levels in batches), seed)
        self.memory = farthest_points(candidates, round(CORESET * count))

    def judge(self, levels: Sequence[Tensor], image_size: int) -> tuple[Tensor, Tensor]:
        """Maps [B, 256, 256] and image scores [B]."""
        mine = tokens(levels)
        nearest = [torch.cdist(part, self.memory).min(dim=1) for part in mine.flatten(0, 1).split(TOKENS_AT_A_TIME)]
        distance = torch.cat([found.values for found in nearest]).view(mine.shape[:2])
        match = torch.cat([found.indices for found in nearest]).view(mine.shape[:2])
        score, worst = distance.max(dim=1)
        rows = torch.arange(len(mine))
        matched = self.memory[match[rows, worst]]
        near = torch.cdist(matched, self.memory).topk(min(NEIGHBOURS, len(self.memory)), largest=False).indices
        away = (mine[rows, worst][:, None] - self.memory[near]).norm(dim=-1)
        weight = 1 - away.softmax(dim=1)[:, 0]
        return to_map(distance[:, None], image_size), score * weight


def tokens(levels: Sequence[Tensor]) -> Tensor:
    """The two levels as PatchCore sees them: [B, N, C]."""
    fine, coarse = (_pooled(level) for level in levels)
    coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([fine, coarse], dim=1).flatten(2).transpose(1, 2)


def _pooled(level: Tensor) -> Tensor:
    """[B, N, C] to [B, C, h, w], each place the mean of 3x3."""
    side = round(level.shape[1] ** 0.5)
    image = level.float().transpose(1, 2).unflatten(2, (side, side))
    return F.avg_pool2d(image, 3, 1, 1)
