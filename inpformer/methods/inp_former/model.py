"""INP-Former as a method: its network with the projection before it, how it is trained, and its anomaly maps."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.encoders.tokens import projected_channels, token_wants
from inpformer.methods.base import Anomalies, Fit, Groups, Model, Phase, Terms, Train
from inpformer.methods.inp_former.losses import (
    coherence_loss,
    distance_maps,
    losses,
    nearest_prototype_distance,
    reconstruction_loss,
)
from inpformer.methods.inp_former.network import INPFormer, NetworkShape, Reconstruction
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.nn.maps import to_map
from inpformer.nn.optim import StableAdamW, learning_rate
from inpformer.nn.projection import Projection

# A head of the decoder sees this many channels of a projected encoder; a ViT brings its own number of heads.
CHANNELS_PER_HEAD = 32
GRADIENT_CLIP = 0.1


class InpFormer(Model):
    """The trained network; of a convolutional encoder also the projection of its features."""

    def __init__(self, settings: InpFormerSettings, shape: EncoderShape) -> None:
        super().__init__()
        self.settings = settings
        groups = self.wants(settings, shape).shapes(shape.levels)
        channels = projected_channels(shape, groups, settings.channels)
        self.network = INPFormer(_network_shape(settings, shape.heads, groups, channels))
        self.projection = None if channels is None else Projection(groups[0].channels, channels)

    @staticmethod
    def wants(settings: InpFormerSettings, shape: EncoderShape) -> Wants:
        """See `Model`."""
        return token_wants(shape, settings.grid)

    def phases(self) -> tuple[Phase, ...]:
        """The projection is fitted once, then the network is trained (section 3.5; StableAdamW, warm-up, cosine)."""
        s = self.settings
        train = Train(
            network=self.network,
            epochs=s.epochs,
            optimizer=partial(StableAdamW, lr=s.lr),
            rate=lambda step, total: learning_rate(step, total, s.lr, s.final_lr, s.warmup),
            loss=self._loss,
            validate=self._validate,
            clip=GRADIENT_CLIP,
        )
        return (train,) if self.projection is None else (Fit(self._fit_projection), train)

    def target(self, groups: Groups) -> Tensor:
        """The groups as the network takes them: [B, G, N, C]."""
        target = torch.stack([group.float() for group in groups], dim=1)
        if self.projection is None:
            return target
        projected: Tensor = self.projection(target)
        return projected

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """Of how badly each place is rebuilt; zero-shot, the distance to the nearest of the image's own prototypes."""
        target = self.target(groups)
        if zero_shot:
            fused = target.mean(dim=1)
            return zero_shot_map(fused, self.network.prototypes(fused), image_size)
        return reconstruction_map(self.network(target), image_size)

    def _fit_projection(self, batches: Iterable[Groups]) -> None:
        assert self.projection is not None
        self.projection.fit(torch.stack(list(groups), dim=1) for groups in batches)

    def _loss(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Terms:
        found = losses(network(self.target(groups)), self.settings.losses)
        return {"total": found.total, "soft_mining": found.soft_mining, "coherence": found.coherence}

    def _validate(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        output = network(self.target(groups))
        loss = reconstruction_loss(output.target, output.decoded)
        return loss + self.settings.losses.coherence_weight * coherence_loss(output.fused, output.prototypes)


def _network_shape(
    settings: InpFormerSettings, heads: int | None, groups: Sequence[Level], channels: int | None
) -> NetworkShape:
    """The sizes for these groups, projected to `channels` where the encoder brings no `heads`."""
    if channels is not None:
        return NetworkShape(channels, max(1, channels // CHANNELS_PER_HEAD), len(groups), settings.num_prototypes)
    assert heads is not None
    return NetworkShape(groups[0].channels, heads, len(groups), settings.num_prototypes)


def reconstruction_map(output: Reconstruction, image_size: int) -> Tensor:
    """The anomaly map [B, 256, 256]: how badly each place was rebuilt (section 3.6). `image_size` in pixels."""
    return to_map(distance_maps(output.target, output.decoded), image_size)


def zero_shot_map(fused: Tensor, prototypes: Tensor, image_size: int) -> Tensor:
    """The anomaly map [B, 256, 256] of a model trained on other data: distance to the nearest prototype."""
    return to_map(nearest_prototype_distance(fused, prototypes)[:, None], image_size)
