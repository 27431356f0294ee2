"""Which places of an image AMI-Net hides: in training any, in judging those that are unlike the image's own clusters.

Shapes: B images, N tokens, K clusters, E channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpformer.nn.draws import Draws
from inpformer.nn.precision import precise
from inpformer.nn.transformer import transformer_blocks

DEPTH = 1  # blocks
SPREAD = 0.02  # of the cluster tokens' first values


class Clusters(nn.Module):
    """Makes of an image's tokens the centres of its clusters: learnt tokens read them in a transformer."""

    def __init__(self, width: int, heads: int, clusters: int, depth: int = DEPTH) -> None:
        super().__init__()
        self.tokens = nn.Parameter(SPREAD * torch.randn(1, clusters, width))
        self.blocks = transformer_blocks(width, depth, heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, E] to the centres [B, K, E]."""
        own = self.tokens.shape[1]
        sequence = torch.cat([self.tokens.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        for block in self.blocks:
            sequence = block(sequence)
        centres: Tensor = self.norm(sequence[:, :own])
        return centres


def distances(tokens: Tensor, centres: Tensor) -> Tensor:
    """The length of the difference times 1 - the cosine: [B, N, E] and [B, K, E] give [B, N, K]."""
    one, other = precise(tokens), precise(centres)
    lengths: Tensor = torch.linalg.vector_norm(one[:, :, None] - other[:, None], dim=-1)
    cosines = F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).mT
    return lengths * (1 - cosines)


def unlike(found: Tensor, deviations: float) -> Tensor:
    """Which tokens are far from their cluster, the nearest: of `distances` [B, N, K], [B, N]. Far is beyond the mean of
    the cluster's tokens by so many standard deviations of theirs; a token that has a cluster to itself is not.
    """
    score, number = found.min(dim=2)
    members = (number[:, :, None] == torch.arange(found.shape[2], device=found.device)).to(found)  # [B, N, K]
    count = members.sum(dim=1)
    mean = (members * score[:, :, None]).sum(dim=1) / count.clamp(min=1)
    squares = (members * (score[:, :, None] - mean[:, None]).square()).sum(dim=1)
    limit = mean + deviations * (squares / (count - 1).clamp(min=1)).sqrt()
    far = (members > 0) & (score[:, :, None] >= limit[:, None]) & (count[:, None] > 1)
    return far.any(dim=2)


def at_random(draws: Draws, tokens: int) -> Tensor:
    """A share of each image's tokens, from none to all but one, all shares as likely: [B, N]."""
    share = draws.uniform(1)
    return draws.orders(tokens) < (share * tokens).floor()
