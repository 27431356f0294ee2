"""What the pipeline knows of a method before any of it is built: without torch, so that settings are checked at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inpformer.encoders.shapes import EncoderShape
    from inpformer.features.levels import Wants
    from inpformer.methods.base import Model


@dataclass(frozen=True)
class Method:
    """A method of `inpformer.methods`.

    `settings` is its frozen dataclass, the section `train.<name>`; `modes` the settings of the paper that it has (names
    of `inpformer.methods.setting`); `space` where a search looks if it is not told: by the dotted name of a setting,
    {low, high, log} or {choices}; `model` the place of its `Model`, "module:class".
    """

    name: str
    settings: type[Any]
    modes: tuple[str, ...]
    space: Mapping[str, Mapping[str, Any]]
    model: str

    def wants(self, settings: Any, shape: "EncoderShape") -> "Wants":
        """What of the encoder's levels it reads. Raises UserError where the settings do not suit the encoder."""
        return self._model().wants(settings, shape)

    def make(self, settings: Any, shape: "EncoderShape") -> "Model":
        """A new model for features of this shape. Raises UserError where the settings do not suit the encoder."""
        return self._model()(settings, shape)

    def _model(self) -> "type[Model]":
        module, _, name = self.model.partition(":")
        found: type[Model] = getattr(import_module(module), name)
        return found
