"""DADF as a method: which levels it reads, its two trainings, and its maps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape
from inpformer.encoders.tokens import patch_wants
from inpformer.images.frame import MAP_SIZE
from inpformer.methods.base import TOTAL, Anomalies, Groups, Model, Phase, Seeds, Terms, Train
from inpformer.methods.dadf.flow import Flows
from inpformer.methods.dadf.losses import dimensions, energy_map, likelihood_map, squared_errors, surprises, worth
from inpformer.methods.dadf.reconstruction import Rebuilt, Reconstruction
from inpformer.methods.dadf.settings import DadfSettings
from inpformer.nn.optim import mae_adamw

FLOW_PENALTY = 1e-5  # of squared weights, added to the gradient


class Dadf(Model):
    """The reconstruction, and the flows that judge it."""

    def __init__(self, settings: DadfSettings, shape: EncoderShape) -> None:
        super().__init__()
        self.settings = settings
        levels = self.wants(settings, shape).shapes(shape.levels)
        self.reconstruction = Reconstruction(levels, settings.width, settings.depth, settings.heads)
        self.flows = Flows(levels, settings.flow.depth)

    @staticmethod
    def wants(settings: DadfSettings, shape: EncoderShape) -> Wants:
        """See `Model`. All levels of a pyramid; its authors' are the first three of a ResNet. Of a ViT the two halves
        of its blocks.
        """
        return patch_wants(shape)

    def phases(self) -> tuple[Phase, ...]:
        """The reconstruction is trained, then the flows on what it makes."""
        own, adam = self.settings, partial(torch.optim.Adam, weight_decay=FLOW_PENALTY)
        return (
            Train.at_one_rate(
                self.reconstruction, own, mae_adamw, self._reconstruction_loss, self._validate_reconstruction
            ),
            Train.at_one_rate(self.flows, own.flow, adam, self._flow_loss, self._validate_flows),
        )

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """How unlikely the flows find each place."""
        latents = self.flows(*side_by_side(self.reconstruction(*groups)))
        return energy_map(likelihood_map(latents, MAP_SIZE))

    def scores(self, maps: Tensor) -> Tensor:
        """The largest value of each map."""
        return maps.amax(dim=(1, 2))

    def _reconstruction_loss(
        self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds
    ) -> Terms:
        sample, memory = squared_errors(network(*groups))
        return {TOTAL: sample + memory, "sample": sample, "memory": memory}

    def _validate_reconstruction(
        self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None
    ) -> Tensor:
        return torch.stack(squared_errors(network(*groups))).sum()

    def _flow_loss(
        self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds
    ) -> Terms:
        """The gradient is that of the sum over all numbers of an image, its authors'; the values are a number's."""
        latents = network(*self._frozen(groups))
        nats, count = surprises(latents), dimensions(latents)
        each = dict(zip((f"flow_{level}" for level in range(len(count))), nats / count, strict=True))
        return {TOTAL: worth(nats.sum(), nats.sum() / count.sum()), **each}

    def _validate_flows(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        latents = network(*self._frozen(groups))
        return surprises(latents).sum() / dimensions(latents).sum()

    @torch.no_grad()
    def _frozen(self, groups: Groups) -> list[Tensor]:
        """What the flows see, in 32 bit as when they judge."""
        return side_by_side(self.reconstruction(*groups))


def side_by_side(rebuilt: Rebuilt) -> list[Tensor]:
    """Each level with what both streams made of it: [B, 3·C, h, h]."""
    return [torch.cat(three, dim=1) for three in zip(rebuilt.target, rebuilt.sample, rebuilt.memory, strict=True)]
