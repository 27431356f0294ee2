"""GLCF as a method: which levels it reads, how it is trained, and its maps."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from inpformer.config import require
from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape
from inpformer.encoders.tokens import token_wants
from inpformer.images.frame import MAP_SIZE
from inpformer.methods.base import TOTAL, Anomalies, Fit, Groups, Model, Phase, Seeds, Terms, Train
from inpformer.methods.glcf.losses import fused, losses, raw_maps
from inpformer.methods.glcf.network import GlcfNetwork
from inpformer.methods.glcf.settings import MOST_SCALES, GlcfSettings
from inpformer.nn.maps import spread_scores
from inpformer.nn.means import mean_over_images
from inpformer.nn.optim import mae_adamw

LATER = 300 / 501  # of a training, from where the learning rate is a tenth
SMALLEST_STD = 1e-6  # of maps that are all alike


class Glcf(Model):
    """The trained network, and `mean` and `std` [2, scales]: of the pixels of each branch's map of each level, over the
    training images.
    """

    def __init__(self, settings: GlcfSettings, shape: EncoderShape) -> None:
        super().__init__()
        self.settings = settings
        levels = self.wants(settings, shape).shapes(shape.levels)
        scales = len(levels) - 1
        right = f"{scales} numbers at least, of the levels that are rebuilt, e.g. {[1, 3, 6][-scales:]}"
        require(len(settings.scale_weights) >= scales, "scale_weights", list(settings.scale_weights), right)
        heads = settings.heads, settings.decoder_heads
        self.network = GlcfNetwork(
            levels, settings.width, (settings.depth, settings.depth), heads, rectified=settings.rectified
        )
        self.register_buffer("mean", torch.zeros(2, scales))
        self.register_buffer("std", torch.ones(2, scales))
        own = torch.tensor(settings.scale_weights[-scales:])
        both = torch.stack([own, settings.global_weight * own])
        self.register_buffer("weights", both / both.sum(), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self.weights: Tensor

    @staticmethod
    def wants(settings: GlcfSettings, shape: EncoderShape) -> Wants:
        """See `Model`. The coarsest levels of a pyramid, two to four, each on its own grid, which must be a multiple of
        the next one's; its authors' are all four of a ResNet. Of a ViT the two halves of its blocks.
        """
        if shape.heads is not None:
            return token_wants(shape, None)
        count = len(shape.of_network)
        right = "two levels at least, e.g. [4, 8, 16, 32] in features.encoder.levels: from the last the others are made"
        require(count >= 2, "the number of the network's levels", count, right)
        numbers = sorted(shape.of_network, key=lambda number: -shape.levels[number].side)[-MOST_SCALES - 1 :]
        for finer, coarser in pairwise(shape.levels[number].side for number in numbers):
            right = f"a multiple of {coarser}, the next one's: use a features.encoder.crop that all strides divide"
            require(finer % coarser == 0, "the side of one of the encoder's levels", finer, right)
        coarsest = shape.levels[numbers[-1]].side
        require(coarsest >= 2, "the side of the encoder's coarsest level", coarsest, "at least 2: use a larger crop")
        return Wants(tuple((number,) for number in numbers))

    def phases(self) -> tuple[Phase, ...]:
        """The network is trained, then the statistics of its maps are taken."""
        own = self.settings
        train = replace(
            Train.at_one_rate(self.network, own, mae_adamw, self._loss, self._validate),
            rate=lambda step, total: own.lr if step < LATER * total else own.lr / 10,
        )
        return train, Fit(self._fit_statistics)

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """The weighted mean of both branches' maps of all levels, each as so many standard deviations from its mean."""
        return fused(raw_maps(self.network(*groups), MAP_SIZE), self.mean, self.std, self.weights)

    def scores(self, maps: Tensor) -> Tensor:
        """The standard deviation of each map, at most its largest value."""
        return spread_scores(maps)

    def _loss(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds) -> Terms:
        local, whole, expected = losses(network(*groups))
        return {TOTAL: local + whole + expected, "local": local, "global": whole, "global_estimate": expected}

    def _validate(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        return torch.stack(losses(network(*groups))).sum()

    def _fit_statistics(self, batches: Iterable[Groups]) -> None:
        maps = (raw_maps(self.network(*groups), MAP_SIZE).double() for groups in batches)
        both = (torch.stack([one.mean(dim=(3, 4)), one.square().mean(dim=(3, 4))], dim=1) for one in maps)
        mean, square = mean_over_images(both)
        self.mean.copy_(mean)
        self.std.copy_((square - mean.square()).clamp(min=SMALLEST_STD**2).sqrt())
