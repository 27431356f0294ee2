"""Attention of two streams with the same weights: a sample, and a memory that is to become like it (DADF, section III).

Shapes: B images, N tokens of E channels.
"""

import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from torch import Tensor, nn

MLP_RATIO = 4


class DualBlock(nn.Module):
    """A ViT's block for both. The sample attends to itself. The memory has its own queries and values, and the sample's
    keys: what is mixed into it comes from the memory alone, and the sample says only what belongs together.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, MLP_RATIO * width)

    def forward(self, sample: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Both [B, N, E], before and after."""
        query, key, value = self._heads(sample)
        own_query, _, own_value = self._heads(memory)
        sample = sample + self._attended(query, key, value)
        memory = memory + self._attended(own_query, key, own_value)
        return sample + self.mlp(self.norm2(sample)), memory + self.mlp(self.norm2(memory))

    def _heads(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, each [B, heads, N, E / heads]."""
        found = self.attn.qkv(self.norm1(tokens)).unflatten(2, (3, self.attn.num_heads, -1))
        return tuple(found.permute(2, 0, 3, 1, 4).unbind(0))

    def _attended(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed = F.scaled_dot_product_attention(query, key, value)
        found: Tensor = self.attn.proj(mixed.transpose(1, 2).flatten(2))
        return found
