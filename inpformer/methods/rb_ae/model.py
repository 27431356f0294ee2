"""RB-AE as a method: what it reads, its references, its two trainings, and its maps."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape
from inpformer.encoders.tokens import every_level
from inpformer.methods.base import TOTAL, Anomalies, Fit, Groups, Model, Phase, Seeds, Terms, Train
from inpformer.methods.rb_ae.losses import (
    focal_loss,
    over_levels,
    perception_loss,
    shares_of,
    squared_loss,
    structure_loss,
)
from inpformer.methods.rb_ae.network import RbAeNetwork, Repaired
from inpformer.methods.rb_ae.settings import RbAeSettings
from inpformer.nn.level_tokens import to_grid
from inpformer.nn.maps import smoothed
from inpformer.nn.means import mean_over_images
from inpformer.nn.patches import resized
from inpformer.nn.precision import precise
from inpformer.nn.references import KeepsReferences
from inpformer.nn.segmentation import SegmentationHead, dice_loss, probabilities

MAP_SIGMA = 4.0  # pixels of the map
# Of a channel's variance, as a share of the mean of all: a channel below is as good as constant.
SMALLEST_VARIANCE = 1e-6


class Standard(nn.Module):
    """The mean and deviation of each channel of a level in training images, 0 and 1 before they are taken."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, group: Tensor) -> Tensor:
        """[B, N, C] to standardised [B, C, h, h]."""
        return to_grid((group - self.mean) / self.deviation)


class RbAe(KeepsReferences, Model):
    """The trained network and head, the references, and what levels are standardised by."""

    def __init__(self, settings: RbAeSettings, shape: EncoderShape) -> None:
        super().__init__()
        self.settings = settings
        levels = self.wants(settings, shape).shapes(shape.levels)
        self.side = levels[0].side
        self.standards = nn.ModuleList(Standard(level.channels) for level in levels)
        self.network = RbAeNetwork(levels, settings.width)
        self.head = SegmentationHead(settings.width * len(levels), settings.head.channels)
        self.hold_references(settings.references, [(level.tokens, level.channels) for level in levels])

    @staticmethod
    def wants(settings: RbAeSettings, shape: EncoderShape) -> Wants:
        """See `Model`. All levels of a pyramid, the finest first, each on its own grid; of a ViT the two halves of its
        blocks.
        """
        wants = every_level(shape)
        finest_first = sorted(wants.groups, key=lambda group: -shape.levels[group[0]].side)
        return Wants(tuple(finest_first), wants.join)

    def phases(self) -> tuple[Phase, ...]:
        """Levels are measured, references chosen and kept; the network is trained, then the head, with pictures with
        defects.
        """
        own, train = self.settings, partial(Train.at_one_rate, optimizer=torch.optim.Adam, anomalies=True)
        return (
            Fit(self._standardise),
            Fit(self.choose_references),
            Fit(self.keep_references),
            train(self.network, own, loss=self._repair_loss, validate=self._validate_repair),
            train(self.head, own.head, loss=self._head_loss, validate=self._validate_head),
        )

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """The head's probabilities, smoothed."""
        return smoothed(probabilities(self.head(self.residuals(groups))), MAP_SIGMA)

    def scores(self, maps: Tensor) -> Tensor:
        """The largest value of each map."""
        return maps.amax(dim=(1, 2))

    def residuals(self, groups: Groups) -> Tensor:
        """What is not as its reference would have it: of each level the absolute difference of `found` and `repaired`,
        both of length 1, as the perception of defects compares directions; all on the finest grid, [B, L·W, h, h].
        """
        levels = zip(*self.network.repair(*self._inputs(groups)), strict=True)
        each = [F.normalize(precise(own), dim=1) - F.normalize(precise(other), dim=1) for own, other in levels]
        return torch.cat([resized(one.abs(), self.side) for one in each], dim=1)

    def _inputs(self, groups: Groups) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """What the network is given: levels of the images, of the references, and which one is an image's."""
        return self._grids(groups), self._grids([level.float() for level in self.references]), self.most_alike(groups)

    def _grids(self, groups: Groups) -> list[Tensor]:
        return [standard(group) for standard, group in zip(self.standards, groups, strict=True)]

    def _standardise(self, batches: Iterable[Groups]) -> None:
        standards = [standard for standard in self.standards if isinstance(standard, Standard)]
        both = (torch.cat([_moments(group.double()) for group in groups], dim=2) for groups in batches)
        levels = mean_over_images(both).split([len(standard.mean) for standard in standards], dim=1)
        for standard, (mean, square) in zip(standards, levels, strict=True):
            variance = square - mean.square()
            standard.mean.copy_(mean)
            standard.deviation.copy_(variance.clamp(min=SMALLEST_VARIANCE * float(variance.mean())).sqrt())

    def _repair_loss(
        self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds
    ) -> Terms:
        """Of the good images and as many with defects; what lies below a defect is not known, so that nothing is asked
        of its reconstruction.
        """
        both, masks = together(groups, anomalies)
        inputs = self._inputs(both)
        return self._repair_terms(inputs[0], network(*inputs), masks)

    def _validate_repair(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        return self._repair_loss(network, groups, anomalies, ())[TOTAL]

    def _repair_terms(self, target: Sequence[Tensor], output: Repaired, masks: Tensor) -> Terms:
        shares = [shares_of(masks, grid.shape[-1]) for grid in target]
        seen = zip(output.found, output.repaired, shares, strict=True)
        perception = over_levels([perception_loss(*level) for level in seen])
        made = list(zip(target, output.rebuilt, shares, strict=True))
        squared = over_levels([squared_loss(*level) for level in made])
        structure = over_levels([structure_loss(*level) for level in made])
        total = self.settings.perception_weight * perception + squared + structure
        return {TOTAL: total, "perception": perception, "squared": squared, "structure": structure}

    def _head_loss(self, head: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds) -> Terms:
        both, masks = together(groups, anomalies)
        with torch.no_grad():
            residuals = self.residuals(both)
        logits, defective = head(residuals), slice(len(groups[0]), None)
        # Of a good image Dice says the same until next to nothing is found, so that it teaches nothing.
        dice = dice_loss(probabilities(logits[defective]), masks[defective])
        focal = focal_loss(logits, masks)
        return {TOTAL: dice + focal, "dice": dice, "focal": focal}

    def _validate_head(self, head: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        return self._head_loss(head, groups, anomalies, ())[TOTAL]


def _moments(group: Tensor) -> Tensor:
    """Of each image the mean over places of each channel, and of its square: [B, 2, C]."""
    return torch.stack([group.mean(dim=1), group.square().mean(dim=1)], dim=1)


def together(groups: Groups, anomalies: Anomalies | None) -> tuple[list[Tensor], Tensor]:
    """Good images and those with defects as one batch, and its masks, [2·B, 256, 256]."""
    assert anomalies is not None
    masks = torch.cat([torch.zeros_like(anomalies.masks), anomalies.masks])
    return [torch.cat(pair) for pair in zip(groups, anomalies.groups, strict=True)], masks
