"""ST-MAE as a method: how it is trained, and its maps."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from inpformer.config import require
from inpformer.encoders.shapes import EncoderShape
from inpformer.methods.base import TOTAL, Anomalies, Groups, Seeds, Terms
from inpformer.methods.patched.model import PatchedModel, patch_terms
from inpformer.methods.st_mae.network import StMaeNetwork
from inpformer.methods.st_mae.settings import StMaeSettings
from inpformer.nn.draws import Draws


class StMae(PatchedModel):
    """The trained network, and `splits` [s, N]: orders of the tokens, whose halves are read apart when an image is
    judged. They are the same for every model of one size.
    """

    network: StMaeNetwork

    def __init__(self, settings: StMaeSettings, shape: EncoderShape) -> None:
        super().__init__(settings, shape)
        sizes = self._mae_shape(settings)
        right = f"another divisor of {self.side}, the cells a side: {sizes.tokens} patches cannot be halved"
        require(sizes.tokens % 2 == 0, "patch", self.patch, right)
        self.network = StMaeNetwork(sizes)
        self.register_buffer("splits", Draws(range(settings.splits), torch.device("cpu")).orders(sizes.tokens))
        self.splits: Tensor

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """Of what one half does not rebuild of the other, the mean over all splits."""
        images = self.grid(groups)
        found = [self._map(*self.network(images, order.expand(images.shape[0], -1))) for order in self.splits]
        return torch.stack(found).mean(dim=0)

    def _loss(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds) -> Terms:
        orders = Draws(seeds, groups[0].device).orders(self.network.shape.tokens)
        return patch_terms(*network(self.grid(groups), orders))

    def _validate(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        """The loss of the first split: nothing is drawn at random."""
        images = self.grid(groups)
        return patch_terms(*network(images, self.splits[:1].expand(images.shape[0], -1)))[TOTAL]
