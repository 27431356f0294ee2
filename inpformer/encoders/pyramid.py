"""The frozen convolutional encoder: levels of a timm feature pyramid, each on its own grid, and the picture itself."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from inpformer.encoders.shapes import Level

WHITE = 255


class Picture(nn.Module):
    """The picture itself as a level: its values, whole numbers from 0 to WHITE, which 16 bit hold exactly. So what is
    learnt from the store and what is judged is the same, and no method depends on how the network scales colours.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """`mean` and `std` are those that colours were scaled by (see `Transform`)."""
        super().__init__()
        # No weights: the digest of an encoder is that of its network.
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] normalised images to their values."""
        return (WHITE * (images * self.std + self.mean)).round().clamp(0, WHITE)


class PyramidEncoder(nn.Module):
    """The chosen levels of a network, with the picture among them or not."""

    heads = None

    def __init__(
        self, network: nn.Module | None, image_size: int, own: Picture | None = None, place: int | None = None
    ) -> None:
        """`network` maps [B, 3, S, S] to a list of levels [B, C, h, h], None where no level is a network's;
        `image_size` is S; `own` is the picture's level, and `place` its number.
        """
        super().__init__()
        self.network = None if network is None else network.eval()
        self.own, self.picture = own, place
        # Asked, not computed: how a size is rounded differs from network to network.
        with torch.inference_mode():
            levels = self._levels(torch.zeros(1, 3, image_size, image_size))
        self.levels = tuple(Level(level.shape[-1], level.shape[1]) for level in levels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, S, S] normalised images to levels, each [B, N, C]."""
        return [level.flatten(2).transpose(1, 2) for level in self._levels(images)]

    def _levels(self, images: Tensor) -> list[Tensor]:
        levels = [] if self.network is None else list(self.network(images))
        if self.own is not None and self.picture is not None:
            levels.insert(self.picture, self.own(images))
        return levels
