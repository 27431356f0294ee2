"""The frozen convolutional encoder: levels of a timm feature pyramid, brought to one grid."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpformer.errors import UserError


class PyramidEncoder(nn.Module):
    """The chosen levels, pooled or enlarged to `grid`×`grid`, side by side in one group of channels."""

    groups = 1

    def __init__(self, network: nn.Module, channels: Sequence[int], grid: int) -> None:
        """`network` maps [B, 3, S, S] to a list of levels of these `channels`. Raises UserError if `grid` < 1."""
        super().__init__()
        if grid < 1:
            raise UserError(f"grid is {grid}: it must be at least 1, e.g. the crop divided by 16.")
        self.network = network
        self.grid = grid
        self.channels = sum(channels)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] normalised images to [B, 1, N, C]."""
        levels = [self._to_grid(level) for level in self.network(images)]
        return torch.cat(levels, dim=1).flatten(2).transpose(1, 2)[:, None]

    def _to_grid(self, level: Tensor) -> Tensor:
        if level.shape[-1] >= self.grid:
            return F.adaptive_avg_pool2d(level, self.grid)
        return F.interpolate(level, size=(self.grid, self.grid), mode="bilinear", align_corners=False)
