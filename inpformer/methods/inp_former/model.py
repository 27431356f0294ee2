"""INP-Former as a method: its network with the projection before it, how it is trained, and its anomaly maps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.encoders.tokens import projected_channels, token_wants
from inpformer.errors import UserError
from inpformer.methods.base import Anomalies, Fit, Groups, Model, Phase, Seeds, Terms, Train
from inpformer.methods.inp_former.losses import (
    coherence_loss,
    distance_maps,
    losses,
    nearest_prototype_distance,
    reconstruction_loss,
)
from inpformer.methods.inp_former.network import INPFormer, NetworkShape, Reconstruction
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.nn.coreset import farthest_points, sample
from inpformer.nn.maps import to_map
from inpformer.nn.means import mean_over_images
from inpformer.nn.memory import distances, like_the_stored
from inpformer.nn.optim import StableAdamW, learning_rate
from inpformer.nn.projection import Projection

# A head of the decoder sees this many channels of a projected encoder; a ViT brings its own number of heads.
CHANNELS_PER_HEAD = 32
GRADIENT_CLIP = 0.1
SMALLEST_SCALE = 1e-6  # of images that are all alike


class InpFormer(Model):
    """The trained network; of a convolutional encoder also the projection of its features, and, if the settings want
    one, `memory` [m, C] of projected tokens and `scales` [2]: the mean error of rebuilding and the mean distance to the
    memory.
    """

    def __init__(self, settings: InpFormerSettings, shape: EncoderShape) -> None:
        super().__init__()
        self.settings = settings
        groups = token_wants(shape, settings.grid).shapes(shape.levels)
        channels = projected_channels(shape, groups, settings.channels)
        self.network = INPFormer(_network_shape(settings, shape.heads, groups, channels))
        self.projection = None if channels is None else Projection(groups[0].channels, channels)
        if settings.memory is not None:
            self.register_buffer("memory", torch.zeros(0, self.network.shape.channels))
            self.register_buffer("scales", torch.ones(2))
        self.memory: Tensor
        self.scales: Tensor

    @staticmethod
    def wants(settings: InpFormerSettings, shape: EncoderShape) -> Wants:
        """See `Model`. A memory has the same levels once more, on its own grid, as the last group."""
        network = token_wants(shape, settings.grid)
        if settings.memory is None:
            return network
        remembered = token_wants(shape, settings.memory.grid)
        return replace(
            network, groups=network.groups + remembered.groups, grids=(network.grids or ()) + (remembered.grids or ())
        )

    def phases(self) -> tuple[Phase, ...]:
        """The projection is fitted once, then the network is trained (section 3.5; StableAdamW, warm-up, cosine)."""
        train = self._train(self.network, self.settings.epochs, self._loss, self._validate)
        before = () if self.projection is None else (Fit(self._fit_projection),)
        if self.settings.memory is None:
            return (*before, train)
        return (*before, Fit(self._fill), train, Fit(self._fit_scales))

    def _train(
        self,
        network: nn.Module,
        epochs: int,
        loss: Callable[..., Terms],
        validate: Callable[..., Tensor],
        anomalies: bool = False,
    ) -> Train:
        s = self.settings
        return Train(
            network=network,
            epochs=epochs,
            optimizer=partial(StableAdamW, lr=s.lr),
            rate=lambda step, total: learning_rate(step, total, s.lr, s.final_lr, s.warmup),
            loss=loss,
            validate=validate,
            clip=GRADIENT_CLIP,
            anomalies=anomalies,
            fewest_steps=s.fewest_steps,
        )

    def target(self, groups: Groups) -> Tensor:
        """The groups as the network takes them: [B, G, N, C]."""
        stacked = self._stacked(groups)
        return stacked if self.projection is None else self.projection(stacked)

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """Of how badly each place is rebuilt, and, with a memory, its distance to that; zero-shot, of the distance to
        the nearest of the image's own prototypes.
        """
        target = self.target(groups)
        if zero_shot:
            fused = target.mean(dim=1)
            return zero_shot_map(fused, self.network.prototypes(fused), image_size)
        return self._rebuilt_map(self.network(target), groups, image_size)

    def _rebuilt_map(self, output: Reconstruction, groups: Groups, image_size: int) -> Tensor:
        """Of how badly each place is rebuilt, and, with a memory, its distance to that."""
        if self.settings.memory is None:
            return reconstruction_map(output, image_size)
        if not len(self.memory):
            raise UserError("the memory of normal tokens is empty: train the detector again.")
        errors, away = (
            to_map(found / scale, image_size)
            for found, scale in zip((errors_as_lengths(output), self._away(groups)), self.scales, strict=True)
        )
        weight = self.settings.memory.weight
        return (errors + weight * away) / (1 + weight)

    def load_tensors(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """A memory may be of any length, and is empty until it is filled. Raises UserError naming `source` for whatever
        else does not fit; then the memory stays as it was.
        """
        if self.settings.memory is None:
            super().load_tensors(tensors, source)
            return
        with like_the_stored(self, tensors):
            super().load_tensors(tensors, source)

    def _stacked(self, groups: Groups) -> Tensor:
        """The groups of the network, not the memory's: [B, G, N, C] before the projection."""
        own = groups if self.settings.memory is None else groups[:-1]
        return torch.stack([group.float() for group in own], dim=1)

    def _away(self, groups: Groups) -> Tensor:
        """The distance of each fine token to the memory: [B, 1, N]."""
        return distances(self._remembered(groups), self.memory)[:, None]

    def _remembered(self, groups: Groups) -> Tensor:
        """The fine tokens as the memory has them: [B, N, C]."""
        assert self.settings.memory is not None
        assert self.projection is not None
        tokens, pool = self.projection(groups[-1]), self.settings.memory.pool
        grid = tokens.transpose(1, 2).unflatten(2, (self.settings.memory.grid, -1))
        return F.avg_pool2d(grid, pool, 1, pool // 2, count_include_pad=False).flatten(2).transpose(1, 2)

    def _fill(self, batches: Iterable[Groups]) -> None:
        assert self.settings.memory is not None
        device, most = self.memory.device, self.settings.memory.tokens
        tokens = (self._remembered(groups).flatten(0, 1) for groups in batches)
        candidates, _ = sample(tokens, torch.initial_seed())
        # Half of them at most: of tokens that are in the memory the distance is 0, which would be the unit of all.
        self.memory = farthest_points(candidates.to(device), min(most, max(1, len(candidates) // 2)))

    def _fit_scales(self, batches: Iterable[Groups]) -> None:
        both = ((errors_as_lengths(self.network(self.target(groups))), self._away(groups)) for groups in batches)
        means = (torch.stack([found.double().mean(dim=(1, 2)) for found in each], dim=1) for each in both)
        self.scales.copy_(mean_over_images(means).clamp(min=SMALLEST_SCALE))

    def _fit_projection(self, batches: Iterable[Groups]) -> None:
        assert self.projection is not None
        self.projection.fit(self._stacked(groups) for groups in batches)

    def _loss(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds) -> Terms:
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


def errors_as_lengths(output: Reconstruction) -> Tensor:
    """[B, G, N], as lengths: a cosine distance grows with the square of one."""
    return distance_maps(output.target, output.decoded).clamp(min=0).sqrt()


def reconstruction_map(output: Reconstruction, image_size: int) -> Tensor:
    """The anomaly map [B, 256, 256]: how badly each place was rebuilt (section 3.6). `image_size` in pixels."""
    return to_map(distance_maps(output.target, output.decoded), image_size)


def zero_shot_map(fused: Tensor, prototypes: Tensor, image_size: int) -> Tensor:
    """The anomaly map [B, 256, 256] of a model trained on other data: distance to the nearest prototype."""
    return to_map(nearest_prototype_distance(fused, prototypes)[:, None], image_size)
