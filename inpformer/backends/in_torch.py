"""PyTorch as backend: the networks as they were trained."""

import torch
from torch import Tensor

from inpformer.backends.names import TORCH
from inpformer.encoders.encoder import Encoder
from inpformer.encoders.levels import Wants
from inpformer.methods.base import Groups, Model

VIEWS_ON_A_GPU = 16


class InTorch:
    """Computes on the encoder's device."""

    name, precision = TORCH, 32

    def __init__(self, encoder: Encoder, wants: Wants, zero_shot: bool) -> None:
        self._encoder, self._wants, self._zero_shot = encoder, wants, zero_shot

    @property
    def at_a_time(self) -> int:
        """On a CPU one: what a picture needs stays in the processor's cache (benchmarks/latency.md)."""
        return 1 if self._encoder.device.type == "cpu" else VIEWS_ON_A_GPU

    @torch.inference_mode()
    def groups(self, pictures: Tensor) -> Groups:
        """See `Backend`."""
        pixels = self._encoder.transform.scaled(pictures.to(self._encoder.device))
        return self._wants.of(self._encoder.features(pixels))

    @torch.inference_mode()
    def maps(self, model: Model, groups: Groups) -> Tensor:
        """See `Backend`."""
        return model.maps(groups, self._encoder.transform.crop, self._zero_shot).cpu()
