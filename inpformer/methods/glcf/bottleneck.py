"""GLCF's semantic bottleneck: what of an image's levels passes to the decoders, place by place and as a whole.

Shapes: B images, n² places of the coarsest level, E channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from inpformer.encoders.shapes import Level
from inpformer.nn.positions import sincos_positions
from inpformer.nn.transformer import initialise, patch_convolution, transformer_blocks


class SemanticBottleneck(nn.Module):
    """A transformer reads all places and one semantic token. The local way out has what it made of the places; the
    global one knows of them what the semantic token holds alone.
    """

    def __init__(self, levels: Sequence[Level], width: int, depths: tuple[int, int], heads: tuple[int, int]) -> None:
        """`levels` are read, the coarsest last: its grid and channels come out. `depths` and `heads` are those of the
        encoding blocks and of each decoder's.
        """
        super().__init__()
        last = levels[-1]
        factors = [level.side // last.side for level in levels]
        self.side = last.side
        self.embed = nn.ModuleList(
            patch_convolution(level.channels, width, factor) for level, factor in zip(levels, factors, strict=True)
        )
        self.semantic_token = nn.Parameter(torch.zeros(1, 1, width))
        self.place_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", sincos_positions(last.side, width), persistent=False)
        self.positions: Tensor
        self.blocks = transformer_blocks(width, depths[0], heads[0])
        self.norm = nn.LayerNorm(width)
        self.between = nn.Linear(width, width)
        self.local_blocks = transformer_blocks(width, depths[1], heads[1])
        self.global_blocks = transformer_blocks(width, depths[1], heads[1])
        self.last_norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, last.channels)
        self.apply(initialise)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Levels, each [B, C, h, h], to the local and the global latent, each [B, C, n, n]."""
        embedded = [embed(level) for embed, level in zip(self.embed, levels, strict=True)]
        places = torch.stack(embedded).sum(dim=0).flatten(2).transpose(1, 2) + self.positions
        tokens = torch.cat([places, self.semantic_token.expand(places.shape[0], -1, -1)], dim=1)
        latent = self.between(self.norm(_through(self.blocks, tokens)))
        local = _through(self.local_blocks, latent[:, :-1])
        asking = (self.place_token + self.positions).expand(places.shape[0], -1, -1)
        whole = _through(self.global_blocks, torch.cat([latent[:, -1:], asking], dim=1))[:, 1:]
        return self._on_grid(local), self._on_grid(whole)

    def _on_grid(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.out(self.last_norm(tokens)).transpose(1, 2)
        grid: Tensor = found.unflatten(2, (self.side, self.side)).contiguous()
        return grid


def _through(blocks: nn.ModuleList, tokens: Tensor) -> Tensor:
    """Each block has a skip around it besides its own two, as its authors' have."""
    for block in blocks:
        tokens = block(tokens) + tokens
    return tokens
