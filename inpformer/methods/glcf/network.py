"""GLCF's trained part: the bottleneck and the three decoders behind it (arXiv 2303.05768)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from inpformer.encoders.shapes import Level
from inpformer.methods.glcf.bottleneck import SemanticBottleneck
from inpformer.methods.glcf.decoder import BLOCKS, Decoder


@dataclass(frozen=True)
class Estimates:
    """What is made of a batch: levels, the finest first, each [B, C, n, n]. `target` is the encoder's; `local` rebuilds
    it from the places; `whole` from the semantic token alone; `expected` is what `whole` should be by the places.
    """

    target: list[Tensor]
    local: list[Tensor]
    whole: list[Tensor]
    expected: list[Tensor]


class GlcfNetwork(nn.Module):
    """Everything that is trained: the frozen encoder's levels go in, their estimates come out."""

    def __init__(
        self,
        levels: Sequence[Level],
        width: int,
        depths: tuple[int, int],
        heads: tuple[int, int],
        blocks: Sequence[int] = BLOCKS,
        rectified: bool = True,
    ) -> None:
        """`levels` the finest first; the bottleneck reads all but that, the decoders rebuild all but the last. No
        number of `rectified` levels is below 0.
        """
        super().__init__()
        self.levels = tuple(levels)
        self.bottleneck = SemanticBottleneck(levels[1:], width, depths, heads)
        self.local, self.whole, self.expected = (Decoder(levels[-1], levels[:-1], blocks, rectified) for _ in range(3))

    def forward(self, *groups: Tensor) -> Estimates:
        """Levels, each [B, N, C]."""
        grids = [
            group.transpose(1, 2).unflatten(2, (level.side, level.side)).contiguous()
            for group, level in zip(groups, self.levels, strict=True)
        ]
        local, whole = self.bottleneck(grids[1:])
        return Estimates(grids[:-1], self.local(local), self.whole(whole), self.expected(local))
