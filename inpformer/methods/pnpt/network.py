"""PNPT's trained part: levels become tokens, prompts of the category are aligned to them, and both are decoded.

Shapes: B images, K categories, N = n² places of the coarsest level, E channels of all levels' tokens together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from inpformer.encoders.shapes import Level
from inpformer.nn.cross_attention import CrossAttention
from inpformer.nn.dual_attention import MLP_RATIO, DualBlock
from inpformer.nn.level_tokens import LevelEmbedding, LevelPrediction, to_grid
from inpformer.nn.positions import sincos_positions
from inpformer.nn.transformer import initialise

PROMPT_STD = 0.02


@dataclass(frozen=True)
class Decoded:
    """Levels, the finest first, each [B, C, h, h]: the encoder's, and what is made of both streams."""

    target: list[Tensor]
    rebuilt: list[Tensor]


class ConditionalBlock(nn.Module):
    """A decoder's block: places ask the context, and have no part in what is there but by that."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.context_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = CrossAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, MLP_RATIO * width)

    def forward(self, places: Tensor, context: Tensor) -> Tensor:
        """`places` [B, N, E] and `context` [B, M, E] to places."""
        places = places + self.attn(self.norm(places), self.context_norm(context))
        found: Tensor = places + self.mlp(self.mlp_norm(places))
        return found


class PnptNetwork(nn.Module):
    """`prompts` [K, N, E] has an entry a category. Prompts go through the blocks with the image's tokens, from which
    they take what belongs together and no values; the decoder begins with nothing but the places, and reads both.
    """

    def __init__(self, levels: Sequence[Level], width: int, depth: int, decoder_depth: int, heads: int) -> None:
        """`levels` the finest first; each has `width` channels of a token. There is one category; see `hold`."""
        super().__init__()
        last, every = levels[-1], width * len(levels)
        sizes = [level.channels for level in levels], [level.side // last.side for level in levels]
        self.embed = LevelEmbedding(*sizes, width)
        self.prompts = nn.Parameter(torch.empty(1, last.tokens, every))
        self.register_buffer("positions", sincos_positions(last.side, every), persistent=False)
        self.positions: Tensor
        self.blocks = nn.ModuleList(DualBlock(every, heads) for _ in range(depth))
        self.decoder = nn.ModuleList(ConditionalBlock(every, heads) for _ in range(decoder_depth))
        self.norm = nn.LayerNorm(every)
        self.predict = LevelPrediction(*sizes, every)
        nn.init.normal_(self.prompts, std=PROMPT_STD)
        self.apply(initialise)

    def hold(self, categories: int) -> None:
        """Makes room for so many categories; their prompts are drawn anew. An optimiser must be made afterwards."""
        prompts = self.prompts.new_empty(categories, *self.prompts.shape[1:])
        self.prompts = nn.Parameter(nn.init.normal_(prompts, std=PROMPT_STD))

    def forward(self, entries: Tensor, *groups: Tensor) -> Decoded:
        """`entries` [B] are the numbers of the images' prompts; levels, each [B, N, C]."""
        target = [to_grid(group) for group in groups]
        sample = torch.cat(self.embed(target), dim=2) + self.positions
        prompt = self.prompts[entries] + self.positions
        for block in self.blocks:
            sample, prompt = block(sample, prompt)
        context = torch.cat([prompt, sample], dim=1)
        places = self.positions.expand(sample.shape[0], -1, -1)
        for block in self.decoder:
            places = block(places, context)
        return Decoded(target, self.predict(self.norm(places)))
