"""TFA-Net as a method: which good images it keeps as references, how it is trained, and its maps."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from inpformer.config import require
from inpformer.encoders.shapes import EncoderShape
from inpformer.methods.base import TOTAL, Anomalies, Fit, Groups, Phase, Seeds, Terms
from inpformer.methods.patched.model import PatchedModel, patch_terms
from inpformer.methods.tfa_net.network import TfaNetwork
from inpformer.methods.tfa_net.settings import TfaNetSettings
from inpformer.nn.appearance import appearance
from inpformer.nn.coreset import medoids, sample


class TfaNet(PatchedModel):
    """The trained network, and m references: of each its levels, `level_<number>` [m, N, C] in 16 bit, as the store has
    them, and its `looks` [m, ΣC], by which it is chosen.
    """

    network: TfaNetwork

    def __init__(self, settings: TfaNetSettings, shape: EncoderShape) -> None:
        super().__init__(settings, shape)
        self.network = TfaNetwork(self._mae_shape(settings))
        self.register_buffer("looks", torch.zeros(settings.references, self.channels))
        self.looks: Tensor
        for number, level in enumerate(self.levels):
            empty = torch.zeros(settings.references, level.tokens, level.channels, dtype=torch.float16)
            self.register_buffer(f"level_{number}", empty)

    def phases(self) -> tuple[Phase, ...]:
        """The references are chosen, then their levels are kept; then as `PatchedModel`."""
        return Fit(self._choose), Fit(self._keep), *super().phases()

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """Of what the reference most like an image does not rebuild of it."""
        return self._map(*self.network(self.grid(groups), self.reference(groups)))

    def reference(self, groups: Groups) -> Tensor:
        """Of each image the reference that looks most like it: [B, C, S, S]."""
        nearest = (appearance(groups) @ self.looks.T).argmax(dim=1)
        return self.grid([level[nearest].float() for level in self._kept])

    @property
    def _kept(self) -> list[Tensor]:
        return [self.get_buffer(f"level_{number}") for number in range(len(self.levels))]

    def _choose(self, batches: Iterable[Groups]) -> None:
        """The training images that others are most like: as many groups as references, the middle of each."""
        found, count = sample((appearance(groups) for groups in batches), torch.initial_seed())
        wanted = len(self.looks)
        require(wanted <= count, "references", wanted, f"at most {count}, the number of training images")
        self.looks.copy_(medoids(found, wanted))

    def _keep(self, batches: Iterable[Groups]) -> None:
        """The levels of the images that were chosen, found again by their looks."""
        nearest = torch.full((len(self.looks),), -torch.inf, device=self.looks.device)
        for groups in batches:
            alike, place = (self.looks @ appearance(groups).T).max(dim=1)
            better = alike > nearest
            nearest = nearest.maximum(alike)
            for level, group in zip(self._kept, groups, strict=True):
                level[better] = group[place[better]].to(level.dtype)

    def _loss(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds) -> Terms:
        return patch_terms(*network(self.grid(groups), self.reference(groups)))

    def _validate(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        return self._loss(network, groups, anomalies, ())[TOTAL]
