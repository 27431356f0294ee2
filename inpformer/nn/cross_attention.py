"""Attention of tokens over other tokens.

Shapes: B images, M tokens that ask N others, C channels, H heads.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Softmax attention of some tokens, the queries, over others, their context."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """`queries` [B, M, C] and `context` [B, N, C] give [B, M, C]."""
        q = split_heads(self.q(queries), self.heads)
        k, v = (split_heads(t, self.heads) for t in self.kv(context).chunk(2, dim=-1))
        mixed: Tensor = self.proj(merge_heads(F.scaled_dot_product_attention(q, k, v)))
        return mixed


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, N, C] to [B, H, N, C/H]."""
    split: Tensor = x.unflatten(-1, (heads, -1))
    return split.transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B, H, N, C/H] to [B, N, C]."""
    return x.transpose(1, 2).flatten(2)
