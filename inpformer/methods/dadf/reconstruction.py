"""DADF's first stage: an image's features rebuilt from themselves, and from a memory of normal ones.

Shapes: B images, n² places of the coarsest level, E channels of all levels' tokens together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inpformer.encoders.shapes import Level
from inpformer.nn.dual_attention import DualBlock
from inpformer.nn.level_tokens import LevelEmbedding, LevelPrediction, to_grid
from inpformer.nn.positions import sincos_positions
from inpformer.nn.transformer import initialise

MEMORY_STD = 0.02


@dataclass(frozen=True)
class Rebuilt:
    """Levels, the finest first, each [B, C, h, h]: the encoder's, and what comes of the image and of the memory."""

    target: list[Tensor]
    sample: list[Tensor]
    memory: list[Tensor]


class Reconstruction(nn.Module):
    """Two streams through the same blocks: the image's tokens, and learnt ones, which know the image by its keys alone:
    so far as normal tokens can be rearranged to it, the memory becomes the image.
    """

    def __init__(self, levels: Sequence[Level], width: int, depth: int, heads: int) -> None:
        """`levels` the finest first; each has `width` channels of a token."""
        super().__init__()
        last, every = levels[-1], width * len(levels)
        sizes = [level.channels for level in levels], [level.side // last.side for level in levels]
        self.embed = LevelEmbedding(*sizes, width)
        self.memory = nn.Parameter(torch.empty(1, last.tokens, every))
        self.register_buffer("positions", sincos_positions(last.side, every), persistent=False)
        self.positions: Tensor
        self.blocks = nn.ModuleList(DualBlock(every, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(every)
        self.predict = LevelPrediction(*sizes, every)
        nn.init.normal_(self.memory, std=MEMORY_STD)
        self.apply(initialise)

    def forward(self, *groups: Tensor) -> Rebuilt:
        """Levels, each [B, N, C]."""
        target = [to_grid(group) for group in groups]
        sample = torch.cat(self.embed(target), dim=2) + self.positions
        memory = (self.memory + self.positions).expand(sample.shape[0], -1, -1)
        for block in self.blocks:
            sample, memory = block(sample, memory)
        return Rebuilt(target, *(self.predict(self.norm(stream)) for stream in (sample, memory)))
