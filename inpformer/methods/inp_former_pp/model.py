"""INP-Former++ as a method: INP-Former's network and projection, a residual head, its losses, phases and maps."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from inpformer.encoders.shapes import EncoderShape
from inpformer.methods.base import TOTAL, Anomalies, Fit, Groups, Model, Phase, Seeds, Terms
from inpformer.methods.inp_former.losses import coherence_loss, distance_maps
from inpformer.methods.inp_former.losses import reconstruction_loss as cosine_loss
from inpformer.methods.inp_former.model import InpFormer, zero_shot_map
from inpformer.methods.inp_former.network import INPFormer, Reconstruction
from inpformer.methods.inp_former_pp.head import residual
from inpformer.methods.inp_former_pp.losses import (
    soft_coherence_loss,
    soft_prototypes,
    squared_errors,
    two_branch_mining_loss,
)
from inpformer.methods.inp_former_pp.settings import ALONE, JOINTLY, InpFormerPlusSettings
from inpformer.nn.maps import to_map
from inpformer.nn.means import mean_over_images
from inpformer.nn.segmentation import SegmentationHead, dice_loss, probabilities

SOFT_MINING, COHERENCE, DICE = "soft_mining", "coherence", "dice"


class Joint(nn.Module):
    """Network and head as one, for the phase that trains both."""

    def __init__(self, network: INPFormer, head: SegmentationHead) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, target: Tensor, anomalous: Tensor, unit: Tensor) -> tuple[Reconstruction, Tensor]:
        """The reconstruction of good images [B, G, N, C], and the head's logits [B, 4h, 4w] of anomalous ones."""
        return self.network(target), self.head(rebuilt_residual(self.network, anomalous, unit))


class InpFormerPlus(InpFormer):
    """`unit` [1] is the size of a channel that differences are measured in."""

    settings: InpFormerPlusSettings

    def __init__(self, settings: InpFormerPlusSettings, shape: EncoderShape) -> None:
        super().__init__(settings, shape)
        self.head = SegmentationHead(self.network.shape.channels, settings.head.channels)
        self.register_buffer("unit", torch.ones(1))
        self.unit: Tensor

    @property
    def has_head(self) -> bool:
        """Whether the head is trained and asked."""
        return self.settings.losses.residual_weight > 0

    def phases(self) -> tuple[Phase, ...]:
        """What is fitted, then network and head, in one phase or in two; or the head alone."""
        s = self.settings
        joint = Joint(self.network, self.head)
        network = partial(self._train, self.network, s.epochs, self._network_loss, self._validate_network)
        head = partial(self._train, self.head, s.head.epochs, self._head_loss, self._validate_head, anomalies=True)
        both = partial(self._train, joint, s.epochs, self._joint_loss, self._validate_both, anomalies=True)
        fits = [] if self.projection is None or s.head.training == ALONE else [Fit(self._fit_projection)]
        if s.distances == "relative":
            fits.append(Fit(self._fit_unit))
        if not self.has_head:
            return (*fits, network())
        if s.head.training == JOINTLY:
            return (*fits, both())
        return (*fits, head()) if s.head.training == ALONE else (*fits, network(), head())

    def take_up(self, other: Model) -> None:
        """Takes over all of a trained INP-Former. The settings must be `like` its own."""
        mine = {name: tensor for name, tensor in self.tensors().items() if name == "unit" or name.startswith("head.")}
        self.load_tensors(mine | other.tensors(), "the model which is taken up")

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """How badly each place is rebuilt, or the map of the INP-Former that was taken up, and by its weight what the
        head makes of that: their mean. Zero-shot, the distance to the image's own prototypes.
        """
        target = self.target(groups)
        if zero_shot:
            return self._zero_shot(target.mean(dim=1), image_size)
        output = self.network(target)
        rebuilt = self._rebuilt_map(output, groups, image_size)
        if not self.has_head:
            return rebuilt
        found = self.head(residual(output, self.unit)).sigmoid()
        weight = self.settings.head.weight
        return (rebuilt + weight * to_map(found.flatten(1)[:, None], image_size)) / (1 + weight)

    def _rebuilt_map(self, output: Reconstruction, groups: Groups, image_size: int) -> Tensor:
        """That of the INP-Former that was taken up, for a head alone."""
        if self.settings.head.training == ALONE:
            return super()._rebuilt_map(output, groups, image_size)
        return to_map(self._errors(output), image_size)

    def _errors(self, output: Reconstruction) -> Tensor:
        """The mean of cosine distance and length of the difference, by the branches' weights: [B, G, N]."""
        losses = self.settings.losses
        cosine, squared = losses.cosine_weight, losses.squared_weight
        total = cosine * distance_maps(output.target, output.decoded)
        if squared:
            total = total + squared * self._lengths(output)
        return total / (cosine + squared)

    def _lengths(self, output: Reconstruction) -> Tensor:
        """Of the differences: relative ones in units of a token's length, absolute ones as they are."""
        root = self._squared_errors(output).sqrt()
        relative = self.settings.distances == "relative"
        return root if relative else root * output.target[..., : self._end].shape[-1] ** 0.5

    def _squared_errors(self, output: Reconstruction) -> Tensor:
        return squared_errors(output.target[..., : self._end], output.decoded[..., : self._end], self.unit)

    @property
    def _end(self) -> int | None:
        """Of the channels whose squared error counts: the projection's constant one, the last, is there for the cosine
        alone, and would be four fifths of a token's squared length.
        """
        return None if self.projection is None else -1

    def _zero_shot(self, fused: Tensor, image_size: int) -> Tensor:
        prototypes = self.network.prototypes(fused)
        if self.settings.zero_shot == "nearest":
            return zero_shot_map(fused, prototypes, image_size)
        mixed = soft_prototypes(fused, prototypes)
        return to_map(distance_maps(fused[:, None], mixed[:, None]), image_size)

    def _fit_unit(self, batches: Iterable[Groups]) -> None:
        targets = (self.target(groups)[..., : self._end].double() for groups in batches)
        self.unit.copy_(mean_over_images(target.square().flatten(1).mean(dim=1) for target in targets).sqrt())

    def _network_loss(
        self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds
    ) -> Terms:
        return self._network_terms(network(self.target(groups)))

    def _head_loss(self, head: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds) -> Terms:
        assert anomalies is not None
        residuals = rebuilt_residual(self.network, self.target(anomalies.groups), self.unit)
        dice = dice_loss(probabilities(head(residuals)), anomalies.masks)
        return {TOTAL: dice, DICE: dice}

    def _joint_loss(
        self, joint: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds
    ) -> Terms:
        assert anomalies is not None
        output, logits = joint(self.target(groups), self.target(anomalies.groups), self.unit)
        terms, dice = self._network_terms(output), dice_loss(probabilities(logits), anomalies.masks)
        total = terms.pop(TOTAL) + self.settings.losses.residual_weight * dice
        return {TOTAL: total, **terms, DICE: dice}

    def _network_terms(self, output: Reconstruction) -> Terms:
        losses, coherence = self.settings.losses, self._coherence(output)
        weights = (losses.mining_power, losses.cosine_weight, losses.squared_weight)
        mining = two_branch_mining_loss(output.target, output.decoded, self.unit, *weights, self._end)
        return {TOTAL: mining + losses.coherence_weight * coherence, SOFT_MINING: mining, COHERENCE: coherence}

    def _coherence(self, output: Reconstruction) -> Tensor:
        soft = self.settings.losses.coherence == "soft"
        return (soft_coherence_loss if soft else coherence_loss)(output.fused, output.prototypes)

    def _validate_network(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        output, losses = network(self.target(groups)), self.settings.losses
        loss = losses.coherence_weight * self._coherence(output)
        if losses.cosine_weight:
            loss = loss + losses.cosine_weight * cosine_loss(output.target, output.decoded)
        if losses.squared_weight:
            loss = loss + losses.squared_weight * self._squared_errors(output).mean()
        return loss

    def _validate_head(self, head: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        return self._head_loss(head, groups, anomalies, ())[DICE]

    def _validate_both(self, joint: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        weight = self.settings.losses.residual_weight
        head = self._validate_head(self.head, groups, anomalies)
        return self._validate_network(self.network, groups, anomalies) + weight * head


def rebuilt_residual(network: INPFormer, anomalous: Tensor, unit: Tensor) -> Tensor:
    """The head's input for anomalous images [B, G, N, C]: the network learns nothing from them."""
    with torch.no_grad():
        return residual(network(anomalous), unit)
