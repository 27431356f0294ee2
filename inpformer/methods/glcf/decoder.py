"""The decoder that rebuilds an encoder's levels from its coarsest grid (RD4AD, CVPR 2022: a wide ResNet backwards)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from inpformer.encoders.shapes import Level
from inpformer.nn.batch_norm import SharedBatchNorm

BLOCKS = (3, 4, 6)  # of the levels, the coarsest first


class Decoder(nn.Module):
    """Rebuilds `levels`, the finest first, from the coarser level `start`, each from the one below."""

    def __init__(self, start: Level, levels: Sequence[Level], blocks: Sequence[int] = BLOCKS) -> None:
        """`blocks` are the numbers of them that rebuild a level, the coarsest first."""
        super().__init__()
        stages, below = [], start
        for level, count in zip(reversed(levels), blocks, strict=False):
            first = DecoderBlock(below.channels, level.channels, level.side // below.side)
            rest = (DecoderBlock(level.channels, level.channels) for _ in range(count - 1))
            stages.append(nn.Sequential(first, *rest))
            below = level
        self.stages = nn.ModuleList(stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, C, n, n] of the start to the levels, each [B, C, n, n]."""
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found[::-1]


class DecoderBlock(nn.Module):
    """A bottleneck block whose grid grows by `factor`: a transposed convolution stands for the strided one."""

    def __init__(self, before: int, after: int, factor: int = 1) -> None:
        super().__init__()
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
        return F.relu(hidden + (x if self.upsample is None else self.upsample(x)))


def _growing(before: int, after: int, factor: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(before, after, factor, factor, bias=False)
