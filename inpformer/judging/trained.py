"""What training makes: a model with its projection, and the record of what it was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from inpformer.config import require
from inpformer.methods.inp_former.network import INPFormer, ModelShape
from inpformer.methods.setting import KNOWN
from inpformer.nn.projection import Projection
from inpformer.nn.tensors import load_exactly, part_of, prefixed

# The category of a model that serves all of them.
ALL = ""


@dataclass(frozen=True)
class Training:
    """What a detector was trained on, and so how it may be asked: `setting` is a name of `inpformer.methods.setting`;
    `data_digest` the manifest's; `categories` those that it has seen.
    """

    setting: str
    data_digest: str
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        right = "multi-class, single-class, super-multi-class, zero-shot or few-shot-K-multi-class"
        require(KNOWN.fullmatch(self.setting) is not None, "setting", self.setting, right)


@dataclass(frozen=True)
class Trained:
    """One model, and the projection that its features go through first."""

    projection: Projection | None
    model: INPFormer

    def to(self, device: torch.device) -> "Trained":
        """Moves both, ready to judge; returns self."""
        for part in (self.projection, self.model):
            if part is not None:
                part.eval().to(device)
        return self

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name; `load_tensors` is the counterpart."""
        projection = prefixed("projection.", self.projection.state_dict()) if self.projection is not None else {}
        return prefixed("model.", self.model.state_dict()) | projection

    @classmethod
    def load_tensors(
        cls, tensors: Mapping[str, Tensor], encoder_channels: int, shape: ModelShape, source: str
    ) -> "Trained":
        """Raises UserError naming `source` if a tensor is missing, unknown or of another shape."""
        projected = part_of(tensors, "projection.")
        trained = cls(Projection(encoder_channels, shape.channels) if projected else None, INPFormer(shape))
        load_exactly(trained.model, part_of(tensors, "model."), source)
        if trained.projection is not None:
            load_exactly(trained.projection, projected, source)
        return trained
