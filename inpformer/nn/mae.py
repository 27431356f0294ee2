"""A masked autoencoder's two halves (He et al. 2022, arXiv 2111.06377), over patches of features instead of pixels.

Shapes: B images, N patches of p × p cells, C channels; E channels of the encoder, D of the decoder.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inpformer.nn.positions import sincos_positions
from inpformer.nn.transformer import initialise, patch_convolution, transformer_blocks

SPREAD = 0.02  # of the class token's first values


@dataclass(frozen=True)
class MaeShape:
    """`side` cells a side of `channels` are cut into patches of `patch` a side."""

    side: int
    channels: int
    patch: int
    width: int
    depth: int
    heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int

    @property
    def tokens(self) -> int:
        """N."""
        return (self.side // self.patch) ** 2


class MaeEncoder(nn.Module):
    """Makes tokens of patches, and latents of any of these tokens."""

    def __init__(self, shape: MaeShape) -> None:
        super().__init__()
        self.embed = patch_convolution(shape.channels, shape.width, shape.patch)
        self.class_token = nn.Parameter(SPREAD * torch.randn(1, 1, shape.width))
        self.register_buffer("positions", sincos_positions(shape.side // shape.patch, shape.width), persistent=False)
        self.positions: Tensor
        self.blocks = transformer_blocks(shape.width, shape.depth, shape.heads)
        self.norm = nn.LayerNorm(shape.width)
        self.out = nn.Linear(shape.width, shape.decoder_width)
        self.apply(initialise)

    def tokens(self, grid: Tensor) -> Tensor:
        """[B, C, S, S] to a token a patch that knows its place: [B, N, E]."""
        found: Tensor = self.embed(grid).flatten(2).transpose(1, 2) + self.positions
        return found

    def forward(self, tokens: Tensor) -> Tensor:
        """Any n tokens [B, n, E] to [B, 1 + n, D], the class token's first."""
        sequence = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        for block in self.blocks:
            sequence = block(sequence)
        latents: Tensor = self.out(self.norm(sequence))
        return latents


class MaeDecoder(nn.Module):
    """Makes patches of the latents of all places."""

    def __init__(self, shape: MaeShape) -> None:
        super().__init__()
        positions = sincos_positions(shape.side // shape.patch, shape.decoder_width)
        self.register_buffer("positions", positions, persistent=False)
        self.positions: Tensor
        self.blocks = transformer_blocks(shape.decoder_width, shape.decoder_depth, shape.decoder_heads)
        self.norm = nn.LayerNorm(shape.decoder_width)
        self.out = nn.Linear(shape.decoder_width, shape.patch**2 * shape.channels)
        self.apply(initialise)

    def forward(self, first: Tensor, latents: Tensor) -> Tensor:
        """A class token's latent [B, 1, D] and those of all places [B, N, D] to [B, N, p²·C]."""
        sequence = torch.cat([first, latents + self.positions], dim=1)
        for block in self.blocks:
            sequence = block(sequence)
        vectors: Tensor = self.out(self.norm(sequence[:, 1:]))
        return vectors
