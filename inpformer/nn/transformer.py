"""Transformer blocks as MAE has them: timm's, normalised before each part."""

from timm.models.vision_transformer import Block
from torch import nn


def transformer_blocks(width: int, depth: int, heads: int) -> nn.ModuleList:
    """So many blocks of that width, in a list."""
    return nn.ModuleList(Block(width, heads, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(depth))


def initialise(module: nn.Module) -> None:
    """Xavier's uniform weights for a linear layer, without a bias; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def patch_convolution(channels: int, width: int, patch: int) -> nn.Conv2d:
    """Makes a token of each patch; its weights begin as a linear layer's."""
    convolution = nn.Conv2d(channels, width, patch, patch)
    nn.init.xavier_uniform_(convolution.weight.view(width, -1))
    return convolution
