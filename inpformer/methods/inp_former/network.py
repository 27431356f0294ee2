"""The trained part of INP-Former: prototype extractor, bottleneck and prototype-guided decoder.

Shapes: B images, G groups of encoder layers, N patch tokens, C channels, M prototypes (INPs), H heads.
Source: INP-Former (CVPR 2025, arXiv 2503.02424), sections 3.2 to 3.4.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpformer.config import require
from inpformer.nn.cross_attention import CrossAttention, merge_heads, split_heads

DECODER_BLOCKS = 8
NORM_EPS = 1e-8


@dataclass(frozen=True)
class NetworkShape:
    """The sizes of the trained part; `groups` is the number of encoder groups that the decoder rebuilds."""

    channels: int
    heads: int
    groups: int
    num_prototypes: int

    def __post_init__(self) -> None:
        require(self.num_prototypes >= 1, "num_prototypes", self.num_prototypes, "at least 1 (the paper's is 6)")
        require(self.heads >= 1, "heads", self.heads, "at least 1")
        require(
            self.channels >= 1 and self.channels % self.heads == 0,
            "channels",
            self.channels,
            f"a multiple of the {self.heads} heads",
        )
        require(
            self.groups >= 1 and DECODER_BLOCKS % self.groups == 0,
            "groups",
            self.groups,
            f"a divisor of the {DECODER_BLOCKS} decoder blocks",
        )


@dataclass(frozen=True)
class Reconstruction:
    """One forward pass: `target` [B, G, N, C] as the encoder gave it, `fused` [B, N, C] its mean over the
    groups, `prototypes` [B, M, C], `decoded` [B, G, N, C].
    """

    target: Tensor
    fused: Tensor
    prototypes: Tensor
    decoded: Tensor


class Mlp(nn.Module):
    """Two linear layers with a GELU between them, widened four times."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return hidden


class PrototypeAttention(nn.Module):
    """ReLU attention of the tokens over the prototypes: cosine similarities, a learnable scale a head, neither
    softmax nor 1/√d, so that a token unlike every prototype receives nothing.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.learn_scale = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, tokens: Tensor, prototypes: Tensor) -> Tensor:
        """`tokens` [B, N, C] and `prototypes` [B, M, C] give [B, N, C]."""
        q = F.normalize(split_heads(self.q(tokens), self.heads), dim=-1)
        k, v = (split_heads(t, self.heads) for t in self.kv(prototypes).chunk(2, dim=-1))
        weights = F.relu(self.learn_scale * (q @ F.normalize(k, dim=-1).transpose(-2, -1)))
        mixed: Tensor = self.proj(merge_heads(weights @ v))
        return mixed


class PrototypeExtractor(nn.Module):
    """Turns the learnable tokens into the image's own normal prototypes (INPs)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.attn = CrossAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.mlp = Mlp(channels)

    def forward(self, tokens: Tensor, image_tokens: Tensor) -> Tensor:
        """`tokens` [B, M, C] and `image_tokens` [B, N, C] give the prototypes [B, M, C]."""
        tokens = tokens + self.attn(self.norm1(tokens), self.norm1(image_tokens))
        prototypes: Tensor = tokens + self.mlp(self.norm2(tokens))
        return prototypes


class DecoderBlock(nn.Module):
    """One decoder block. Its attention has no residual: a token is rebuilt from prototypes or not at all."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.attn = PrototypeAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.mlp = Mlp(channels)

    def forward(self, tokens: Tensor, prototypes: Tensor) -> Tensor:
        """`tokens` [B, N, C] and `prototypes` [B, M, C] give [B, N, C]."""
        tokens = self.attn(self.norm1(tokens), self.norm1(prototypes))
        rebuilt: Tensor = tokens + self.mlp(self.norm2(tokens))
        return rebuilt


class INPFormer(nn.Module):
    """Everything that is trained: the frozen encoder's groups go in, their reconstruction comes out."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.prototype_token = nn.Parameter(torch.randn(shape.num_prototypes, shape.channels))
        self.extractor = PrototypeExtractor(shape.channels, shape.heads)
        self.bottleneck = Mlp(shape.channels)
        self.decoder = nn.ModuleList(DecoderBlock(shape.channels, shape.heads) for _ in range(DECODER_BLOCKS))
        self.apply(_initialise)

    def forward(self, target: Tensor) -> Reconstruction:
        """`target` [B, G, N, C]: the encoder's groups."""
        fused = target.mean(dim=1)
        prototypes = self.prototypes(fused)
        tokens = self.bottleneck(fused)
        outputs = []
        for block in self.decoder:
            tokens = block(tokens, prototypes)
            outputs.append(tokens)
        # The last decoder block rebuilds the shallowest layers: reversed, the outputs line up with the groups.
        in_layer_order = torch.stack(outputs[::-1], dim=1)
        decoded = in_layer_order.unflatten(1, (self.shape.groups, -1)).mean(dim=2)
        return Reconstruction(target, fused, prototypes, decoded)

    def prototypes(self, fused: Tensor) -> Tensor:
        """`fused` [B, N, C] gives the image's prototypes [B, M, C]: all that zero-shot scoring needs."""
        extracted: Tensor = self.extractor(self.prototype_token.expand(fused.shape[0], -1, -1), fused)
        return extracted


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.01, a=-0.03, b=0.03)
        nn.init.zeros_(module.bias)
