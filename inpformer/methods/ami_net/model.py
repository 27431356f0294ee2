"""AMI-Net as a method: what it reads, how it is trained, and its maps."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from inpformer.encoders.shapes import EncoderShape
from inpformer.methods.ami_net.losses import losses
from inpformer.methods.ami_net.masks import at_random
from inpformer.methods.ami_net.network import AmiNetwork, NetworkShape
from inpformer.methods.ami_net.settings import AmiNetSettings
from inpformer.methods.base import TOTAL, Anomalies, Groups, Seeds, Terms
from inpformer.methods.patched.model import PatchedModel
from inpformer.nn.draws import Draws

POOLED = 3  # cells a side


class AmiNet(PatchedModel):
    """The trained network."""

    network: AmiNetwork

    def __init__(self, settings: AmiNetSettings, shape: EncoderShape) -> None:
        super().__init__(settings, shape)
        sizes = self.side, self.channels, self.patch, settings.width, settings.depth, settings.heads, settings.clusters
        self.network = AmiNetwork(NetworkShape(*sizes), settings.deviations, settings.jitter)

    def grid(self, groups: Groups) -> Tensor:
        """[B, C, S, S], each cell the mean of its 3 × 3 neighbourhood; beyond the grid lies nothing, 0."""
        return F.avg_pool2d(super().grid(groups), POOLED, 1, POOLED // 2)

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """Of what is rebuilt badly, where the places that are unlike the image's clusters are hidden."""
        found = self.network(self.grid(groups))
        return self._map(found.target, found.rebuilt)

    def _loss(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds) -> Terms:
        draws, grid = Draws(seeds, groups[0].device), self.grid(groups)
        tokens, width = self.network.positions.shape
        return losses(network(grid, at_random(draws, tokens), draws.normal(2, tokens, width)))

    def _validate(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        """The loss as images are judged: nothing is drawn at random."""
        return losses(network(self.grid(groups)))[TOTAL]
