"""AMI-Net's trained part (arXiv 2412.11802): clusters of an image's tokens, and what rebuilds those that are hidden.

Shapes: B images, N tokens of p × p cells, E channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inpformer.methods.ami_net.masks import DEPTH, Clusters, distances, unlike
from inpformer.nn.patches import patchify
from inpformer.nn.positions import sincos_positions
from inpformer.nn.transformer import initialise, patch_convolution, transformer_blocks


@dataclass(frozen=True)
class NetworkShape:
    """`side` cells a side of `channels` are cut into patches of `patch` a side."""

    side: int
    channels: int
    patch: int
    width: int
    depth: int
    heads: int
    clusters: int
    cluster_depth: int = DEPTH


@dataclass(frozen=True)
class Rebuilding:
    """One pass: `target` and `rebuilt` [B, N, p²·C]; `tokens` [B, N, E] and the `centres` [B, K, E] of their clusters;
    which tokens were `hidden` [B, N].
    """

    target: Tensor
    rebuilt: Tensor
    tokens: Tensor
    centres: Tensor
    hidden: Tensor

    @property
    def distances(self) -> Tensor:
        """How far each token is from each centre: [B, N, K]."""
        return distances(self.tokens, self.centres)


class AmiNetwork(nn.Module):
    """Everything that is trained."""

    def __init__(self, shape: NetworkShape, deviations: float, jitter: float) -> None:
        """See the settings for the last two."""
        super().__init__()
        self.patch, self.deviations, self.jitter = shape.patch, deviations, jitter
        self.embed = patch_convolution(shape.channels, shape.width, shape.patch)
        self.cluster_embed = nn.Conv2d(shape.channels, shape.width, shape.patch, shape.patch)
        self.register_buffer("positions", sincos_positions(shape.side // shape.patch, shape.width), persistent=False)
        self.positions: Tensor
        self.clusters = Clusters(shape.width, shape.heads, shape.clusters, shape.cluster_depth)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.blocks = transformer_blocks(shape.width, shape.depth, shape.heads)
        self.norm = nn.LayerNorm(shape.width)
        self.out = nn.Linear(shape.width, shape.patch**2 * shape.channels)
        self.apply(initialise)

    def forward(self, grid: Tensor, hidden: Tensor | None = None, noise: Tensor | None = None) -> Rebuilding:
        """`grid` [B, C, S, S]. `hidden` [B, N] are the tokens to mask, where None those unlike the image's clusters.
        `noise` [B, 2, N, E] disturbs the tokens, those of the clusters and those that are read.
        """
        tokens = self.cluster_embed(grid).flatten(2).transpose(1, 2)
        centres = self.clusters(self._disturbed(tokens, noise, 0) + self.positions)
        tokens = tokens + self.positions
        if hidden is None:
            hidden = unlike(distances(tokens, centres), self.deviations)
        rebuilt = self._rebuilt(self.embed(grid).flatten(2).transpose(1, 2), hidden, noise)
        return Rebuilding(patchify(grid, self.patch), rebuilt, tokens, centres, hidden)

    def _rebuilt(self, tokens: Tensor, hidden: Tensor, noise: Tensor | None) -> Tensor:
        tokens = torch.where(hidden[:, :, None], self.mask_token.to(tokens), tokens)
        tokens = self._disturbed(tokens, noise, 1) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        rebuilt: Tensor = self.out(self.norm(tokens))
        return rebuilt

    def _disturbed(self, tokens: Tensor, noise: Tensor | None, number: int) -> Tensor:
        """By noise in proportion to each token's length: a mask token of zeros stays."""
        if noise is None:
            return tokens
        lengths: Tensor = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
        return tokens + self.jitter / tokens.shape[-1] * lengths * noise[:, number]
