"""The frozen convolutional encoder: levels of a timm feature pyramid, each on its own grid."""

import torch
from torch import Tensor, nn

from inpformer.encoders.shapes import Level


class PyramidEncoder(nn.Module):
    """The chosen levels of a network."""

    heads = None

    def __init__(self, network: nn.Module, image_size: int) -> None:
        """`network` maps [B, 3, S, S] to a list of levels [B, C, h, h]; `image_size` is S."""
        super().__init__()
        self.network = network.eval()
        # Asked, not computed: how a size is rounded differs from network to network.
        with torch.inference_mode():
            levels = self.network(torch.zeros(1, 3, image_size, image_size))
        self.levels = tuple(Level(level.shape[-1], level.shape[1]) for level in levels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, S, S] normalised images to levels, each [B, N, C]."""
        return [level.flatten(2).transpose(1, 2) for level in self.network(images)]
