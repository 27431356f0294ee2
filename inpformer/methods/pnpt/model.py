"""PNPT as a method: which levels it reads, how it tells categories apart, its training and its maps."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape
from inpformer.encoders.tokens import patch_wants
from inpformer.errors import UserError
from inpformer.methods.base import (
    TOTAL,
    Anomalies,
    Categorised,
    FitCategories,
    Groups,
    Model,
    Phase,
    Seeds,
    Terms,
    Train,
)
from inpformer.methods.pnpt.losses import angle_map, angles
from inpformer.methods.pnpt.network import PnptNetwork
from inpformer.methods.pnpt.settings import PnptSettings
from inpformer.nn.appearance import appearance
from inpformer.nn.optim import mae_adamw


class Pnpt(Model):
    """The trained network, and `looks` [K, ΣC]: what an image of each category looks like, the mean of its training
    images, in the order of the network's prompts.
    """

    def __init__(self, settings: PnptSettings, shape: EncoderShape) -> None:
        super().__init__()
        self.settings = settings
        levels = self.wants(settings, shape).shapes(shape.levels)
        sizes = settings.width, settings.depth, settings.decoder_depth, settings.heads
        self.network = PnptNetwork(levels, *sizes)
        self.register_buffer("looks", torch.zeros(1, sum(level.channels for level in levels)))
        self.looks: Tensor

    @staticmethod
    def wants(settings: PnptSettings, shape: EncoderShape) -> Wants:
        """See `Model`. All levels of a pyramid, as DADF; of a ViT the two halves of its blocks."""
        return patch_wants(shape)

    def phases(self) -> tuple[Phase, ...]:
        """What each category looks like is measured, then the network is trained: AdamW at one rate, nothing clipped,
        as in the sister methods.
        """
        train = Train.at_one_rate(self.network, self.settings, mae_adamw, self._loss, self._validate)
        return FitCategories(self._measure), train

    def entries(self, groups: Groups) -> Tensor:
        """Whose prompts each image gets: those of the category whose look is nearest to its own; [B]. In training too,
        so that prompts are asked for by what they were trained on.
        """
        # The squared distance, but for what an image has in common with itself, and halved.
        return (self.looks.square().sum(dim=1) / 2 - appearance(groups) @ self.looks.T).argmin(dim=1)

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """How far each place points away from what is rebuilt of it, the sum over levels."""
        return angle_map(self.network(self.entries(groups), *groups))

    def scores(self, maps: Tensor) -> Tensor:
        """The largest value of each map."""
        return maps.amax(dim=(1, 2))

    def load_tensors(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """See `Model`; there may be any number of categories."""
        before = self.looks, self.network.prompts
        stored = tensors.get("network.prompts")
        # By the larger of the two tensors, so that no small file asks for more memory than it has.
        if stored is not None and stored.shape[1:] == before[1].shape[1:] and len(stored):
            self._hold(len(stored))
        try:
            super().load_tensors(tensors, source)
        except UserError:
            self.looks, self.network.prompts = before
            raise

    def _hold(self, categories: int) -> None:
        self.looks = self.looks.new_zeros(categories, self.looks.shape[1])
        self.network.hold(categories)

    def _measure(self, batches: Iterable[Categorised]) -> None:
        sums: dict[int, Tensor] = {}
        counts: dict[int, int] = {}
        for batch in batches:
            looks = appearance(batch.groups).double()
            for number in batch.categories.unique().tolist():
                own = looks[batch.categories == number]
                sums[number] = sums.get(number, 0) + own.sum(dim=0)
                counts[number] = counts.get(number, 0) + len(own)
        if not sums:
            raise UserError("there are no training features to tell categories by: add training images.")
        self._hold(len(sums))
        self.looks.copy_(torch.stack([sums[number] / counts[number] for number in sorted(sums)]))

    def _loss(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds) -> Terms:
        """The sum over levels, and each level's own, the finest first."""
        means = torch.stack([one.mean() for one in angles(network(self.entries(groups), *groups))])
        each = {f"angle_{level}": mean for level, mean in enumerate(means.unbind())}
        return {TOTAL: means.sum(), **each}

    def _validate(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        return self._loss(network, groups, anomalies, ())[TOTAL]
