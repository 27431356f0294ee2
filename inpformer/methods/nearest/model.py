"""Nearest neighbours as a method: the memory, and the distance of an image's tokens to it."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape
from inpformer.encoders.tokens import projected_channels, token_wants
from inpformer.errors import UserError
from inpformer.methods.base import Fit, Groups, Model, Phase
from inpformer.methods.nearest.settings import NearestSettings
from inpformer.nn.coreset import farthest_points, sample
from inpformer.nn.maps import to_map
from inpformer.nn.memory import distances, like_the_stored
from inpformer.nn.projection import Projection


class Nearest(Model):
    """`memory` [m, C] holds normal tokens: of a ViT the mean of its groups, of a convolutional encoder projected."""

    def __init__(self, settings: NearestSettings, shape: EncoderShape) -> None:
        super().__init__()
        self.settings = settings
        groups = self.wants(settings, shape).shapes(shape.levels)
        channels = projected_channels(shape, groups, settings.channels)
        self.projection = None if channels is None else Projection(groups[0].channels, channels)
        self.register_buffer("memory", torch.zeros(0, channels or groups[0].channels))
        self.memory: Tensor

    @staticmethod
    def wants(settings: NearestSettings, shape: EncoderShape) -> Wants:
        """See `Model`."""
        return token_wants(shape, settings.grid)

    def phases(self) -> tuple[Phase, ...]:
        """The projection is fitted, then the memory is filled: each a pass over the training images."""
        fill = Fit(self._fill)
        return (fill,) if self.projection is None else (Fit(self._fit_projection), fill)

    def tokens(self, groups: Groups) -> Tensor:
        """The groups as the memory holds them: [B, N, C]."""
        stacked = torch.stack([group.float() for group in groups], dim=1)
        projected = stacked if self.projection is None else self.projection(stacked)
        mean: Tensor = projected.mean(dim=1)
        return mean

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """Of the mean Euclidean distance to the nearest tokens of the memory."""
        if not len(self.memory):
            raise UserError("the memory of normal tokens is empty: train the detector again.")
        near = distances(self.tokens(groups), self.memory, self.settings.neighbours)
        return to_map(near[:, None], image_size)

    def load_tensors(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """The memory may be of any length, and is empty until it is filled. Raises UserError naming `source` for
        whatever else does not fit; then the memory stays as it was.
        """
        with like_the_stored(self, tensors):
            super().load_tensors(tensors, source)

    def _fit_projection(self, batches: Iterable[Groups]) -> None:
        assert self.projection is not None
        self.projection.fit(torch.stack(list(groups), dim=1) for groups in batches)

    def _fill(self, batches: Iterable[Groups]) -> None:
        device = self.memory.device
        candidates, count = sample((self.tokens(groups).flatten(0, 1) for groups in batches), torch.initial_seed())
        if not count:
            raise UserError("there are no training features to fill the memory with: add training images.")
        wanted = max(self.settings.neighbours, round(self.settings.coreset_share * count))
        self.memory = farthest_points(candidates.to(device), wanted)
