"""The decoder that rebuilds an encoder's levels from its coarsest grid (RD4AD, CVPR 2022: a wide ResNet backwards)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from inpformer.encoders.shapes import Level
from inpformer.nn.batch_norm import SharedBatchNorm

BLOCKS = (3, 4, 6)  # of the levels, the coarsest first


class Decoder(nn.Module):
    """Rebuilds `levels`, the finest first, from the coarser level `start`, each from the one below. Where these are
    `rectified`, as those of a ResNet, no number of them is below 0, and none that is made.
    """

    def __init__(
        self, start: Level, levels: Sequence[Level], blocks: Sequence[int] = BLOCKS, rectified: bool = True
    ) -> None:
        """`blocks` are the numbers of them that rebuild a level, the coarsest first."""
        super().__init__()
        stages, below = [], start
        for level, count in zip(reversed(levels), blocks, strict=False):
            sizes = [(below.channels, level.side // below.side), *[(level.channels, 1)] * (count - 1)]
            stage = (
                DecoderBlock(before, level.channels, factor, rectified or number < count)
                for number, (before, factor) in enumerate(sizes, 1)
            )
            stages.append(nn.Sequential(*stage))
            below = level
        self.stages = nn.ModuleList(stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, C, n, n] of the start to the levels, each [B, C, n, n]."""
        found: list[Tensor] = []
        for stage in self.stages:
            x = stage(F.relu(x) if found else x)
            found.append(x)
        return found[::-1]


class DecoderBlock(nn.Module):
    """A bottleneck block whose grid grows by `factor`: a transposed convolution stands for the strided one."""

    def __init__(self, before: int, after: int, factor: int = 1, rectified: bool = True) -> None:
        """Nothing that comes out is below 0 where it is `rectified`."""
        super().__init__()
        self.rectified = rectified
        width = max(1, after // 2)
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = SharedBatchNorm(width)
        self.conv2 = _growing(width, width, factor) if factor > 1 else nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = SharedBatchNorm(width)
        self.conv3 = nn.Conv2d(width, after, 1, bias=False)
        self.bn3 = SharedBatchNorm(after)
        same = factor == 1 and before == after
        self.upsample = None if same else nn.Sequential(_growing(before, after, factor), SharedBatchNorm(after))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, n, n] to the grid and channels of after."""
        hidden = F.relu(self.bn1(self.conv1(x)))
        hidden = F.relu(self.bn2(self.conv2(hidden)))
        hidden = self.bn3(self.conv3(hidden))
        both: Tensor = hidden + (x if self.upsample is None else self.upsample(x))
        return F.relu(both) if self.rectified else both


def _growing(before: int, after: int, factor: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(before, after, factor, factor, bias=False)
