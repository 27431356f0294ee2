"""What methods have in common that rebuild an encoder's levels patch by patch: AMI-Net, TFA-Net, ST-MAE."""

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape
from inpformer.encoders.tokens import every_level
from inpformer.methods.base import Anomalies, Groups, Model, Seeds, Terms, Train
from inpformer.nn.maps import product_map, spread_scores
from inpformer.nn.patches import cells, on_one_grid, require_patch

BETAS, WEIGHT_DECAY = (0.9, 0.95), 0.01


class PatchedModel(Model):
    """All levels of a pyramid side by side on the finest one's grid, which is cut into patches; of a ViT the two halves
    of its blocks. The settings have at least `patch`, `epochs`, `fewest_steps` and `lr`.
    """

    network: nn.Module

    def __init__(self, settings: Any, shape: EncoderShape) -> None:
        """Raises UserError where the patches do not fill the grid."""
        super().__init__()
        self.settings = settings
        levels = self.wants(settings, shape).shapes(shape.levels)
        self.side, self.channels = max(one.side for one in levels), sum(one.channels for one in levels)
        require_patch(settings.patch, self.side)

    @staticmethod
    def wants(settings: Any, shape: EncoderShape) -> Wants:
        """See `Model`."""
        return every_level(shape)

    def grid(self, groups: Groups) -> Tensor:
        """What is rebuilt: [B, C, S, S]."""
        return on_one_grid(groups, self.side)

    def scores(self, maps: Tensor) -> Tensor:
        """The standard deviation of each map, at most its largest value."""
        return spread_scores(maps)

    def _train(self) -> Train:
        """AdamW at one rate, nothing clipped."""
        own = self.settings
        return Train(
            network=self.network,
            epochs=own.epochs,
            optimizer=partial(torch.optim.AdamW, lr=own.lr, betas=BETAS, weight_decay=WEIGHT_DECAY),
            rate=lambda step, total: own.lr,
            loss=self._loss,
            validate=self._validate,
            clip=math.inf,
            fewest_steps=own.fewest_steps,
        )

    @abstractmethod
    def _loss(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds) -> Terms:
        """See `Train`."""

    @abstractmethod
    def _validate(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        """See `Train`."""

    def _map(self, target: Tensor, rebuilt: Tensor) -> Tensor:
        """Of patches as vectors [B, N, p²·C]."""
        return product_map(cells(target, self.settings.patch), cells(rebuilt, self.settings.patch))
