"""What the pipeline knows of a method before it is built: without torch, so that settings are checked at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from inpformer.encoders.levels import Wants
    from inpformer.encoders.shapes import EncoderShape
    from inpformer.methods.base import Model


class Official(Protocol):
    """A module that reads the checkpoints of a method's authors: plain state dicts of encoder and model."""

    @staticmethod
    def encoder_name(official: Mapping[str, Any]) -> str | None:
        """timm's name of the encoder; None if that cannot be told."""

    @staticmethod
    def encoder_state(official: Mapping[str, Any]) -> dict[str, Any]:
        """The state of timm's encoder."""

    @staticmethod
    def import_model(official: Mapping[str, Any], shape: "EncoderShape", source: str) -> "tuple[Any, Model]":
        """Settings and model."""


@dataclass(frozen=True)
class Method:
    """A method of `inpformer.methods`.

    `settings` is its frozen dataclass, the section `train.<name>`; `modes` the settings of the paper that it has (names
    of `inpformer.methods.modes`); `space` where a search looks if it is not told: by the dotted name of a setting,
    {low, high, log} or {choices}; `model` the place of its `Model`, "module:class"; `official` the module that reads
    the checkpoints of its authors, "" for none. `anomalies` says whether it learns from pictures with defects besides
    good ones; `learns` whether it learns at all: one that does not has no phases. `torch_only` says why nothing but
    PyTorch can compute its maps, "" where they can be exported. `builds_on` says of settings which method's trained
    model they take up, "" for none; such settings have `like(base)`, with what must be as in the settings of that
    model.
    """

    name: str
    settings: type[Any]
    modes: tuple[str, ...]
    space: Mapping[str, Mapping[str, Any]]
    model: str
    official: str = ""
    anomalies: bool = False
    learns: bool = True
    torch_only: str = ""
    builds_on: Callable[[Any], str] = lambda settings: ""

    def wants(self, settings: Any, shape: "EncoderShape") -> "Wants":
        """What of the encoder's levels it reads. Raises UserError where the settings do not suit the encoder."""
        return self._model().wants(settings, shape)

    def make(self, settings: Any, shape: "EncoderShape") -> "Model":
        """A new model for features of this shape. Raises UserError where the settings do not suit the encoder."""
        return self._model()(settings, shape)

    @property
    def authors(self) -> "Official":
        """What reads its authors' checkpoints."""
        return import_module(self.official)  # type: ignore[return-value]

    def _model(self) -> "type[Model]":
        module, _, name = self.model.partition(":")
        found: type[Model] = getattr(import_module(module), name)
        return found
