"""TFA-Net as a method: which good images it keeps as references, how it is trained, and its maps."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from inpformer.encoders.shapes import EncoderShape
from inpformer.methods.base import TOTAL, Anomalies, Fit, Groups, Phase, Seeds, Terms
from inpformer.methods.patched.model import PatchedModel, patch_terms
from inpformer.methods.tfa_net.network import TfaNetwork
from inpformer.methods.tfa_net.settings import TfaNetSettings
from inpformer.nn.references import KeepsReferences


class TfaNet(KeepsReferences, PatchedModel):
    """The trained network, and its references."""

    network: TfaNetwork

    def __init__(self, settings: TfaNetSettings, shape: EncoderShape) -> None:
        super().__init__(settings, shape)
        self.network = TfaNetwork(self._mae_shape(settings))
        self.hold_references(settings.references, [(level.tokens, level.channels) for level in self.levels])

    def phases(self) -> tuple[Phase, ...]:
        """The references are chosen, then their levels are kept; then as `PatchedModel`."""
        return Fit(self.choose_references), Fit(self.keep_references), *super().phases()

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """Of what the reference most like an image does not rebuild of it."""
        return self._map(*self.network(self.grid(groups), self.reference(groups)))

    def reference(self, groups: Groups) -> Tensor:
        """Of each image the reference that looks most like it: [B, C, S, S]."""
        nearest = self.most_alike(groups)
        return self.grid([level[nearest].float() for level in self.references])

    def _loss(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds) -> Terms:
        return patch_terms(*network(self.grid(groups), self.reference(groups)))

    def _validate(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        return self._loss(network, groups, anomalies, ())[TOTAL]
