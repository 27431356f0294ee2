"""The contract of a method: what its model wants, how it is trained, and how it judges.

A model is built from its settings and the shape of the encoder's features. The training loop takes it through its
phases; detector, calibration, registry and service know nothing else of it.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape
from inpformer.nn.maps import image_scores
from inpformer.nn.tensors import load_exactly

# A batch: the groups that the method wants, each [B, N, C] float32.
Groups = Sequence[Tensor]
# The losses of a batch by name, scalars; what is minimised is called "total".
Terms = dict[str, Tensor]
# A number for each image of a batch, another one in each epoch. What training draws at random for an image follows from
# it alone (`inpformer.nn.draws`), so that it is the same after an interruption, and on any number of workers.
Seeds = Sequence[int]
TOTAL = "total"


@dataclass(frozen=True)
class Anomalies:
    """A batch of pictures with defects: `groups` as above, `masks` [B, 256, 256] float32, 1 where the defect is."""

    groups: Groups
    masks: Tensor


@dataclass(frozen=True)
class Fit:
    """A phase without gradient: `fit` is given all training features once, in a fixed order, a batch at a time. The
    model is in evaluation mode.

    With several workers the first does it and the others receive the model's tensors.
    """

    fit: Callable[[Iterable[Groups]], None]


@dataclass(frozen=True)
class Categorised:
    """A batch of good images: `groups` as above, `categories` [B] int64, the number of each image's category."""

    groups: Groups
    categories: Tensor


@dataclass(frozen=True)
class FitCategories:
    """As `Fit`, for what a model keeps of each category: `fit` is told which one each image is of. In single-class
    training all are of one. An image that several categories have comes once, with the first of them.

    A model that judges is not told: it knows the category of an image, if at all, by the image.
    """

    fit: Callable[[Iterable[Categorised]], None]


class Length(Protocol):
    """Of a method's settings: how long a training takes, and at what learning rate."""

    @property
    def epochs(self) -> int: ...
    @property
    def fewest_steps(self) -> int: ...
    @property
    def lr(self) -> float: ...


@dataclass(frozen=True)
class Train:
    """A phase of gradient steps.

    `network` is what is trained, and what several workers wrap for its gradients. `loss` takes a function that runs it
    (in 16 bit, if the loop says so), a batch of good images, as many pictures with defects if the phase takes
    `anomalies`, else None, and the `Seeds` of the good images; `validate` does the same without seeds on held-out
    images, for `val_loss`, a mean over images. `rate` is the learning rate of a step, by its number in the phase and
    the number of all steps. A gradient longer than `clip` is shortened to it. Where `epochs` have fewer steps than
    `fewest_steps`, there are more of them.
    """

    network: nn.Module
    epochs: int
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    rate: Callable[[int, int], float]
    loss: Callable[[Callable[..., Any], Groups, Anomalies | None, Seeds], Terms]
    validate: Callable[[Callable[..., Any], Groups, Anomalies | None], Tensor]
    clip: float
    anomalies: bool = False
    fewest_steps: int = 0

    @classmethod
    def at_one_rate(
        cls,
        network: nn.Module,
        own: Length,
        optimizer: Callable[..., Optimizer],
        loss: Callable[[Callable[..., Any], Groups, Anomalies | None, Seeds], Terms],
        validate: Callable[[Callable[..., Any], Groups, Anomalies | None], Tensor],
        anomalies: bool = False,
    ) -> "Train":
        """As long as the settings `own` say and at their rate throughout, with no gradient clipped. `optimizer` takes
        parameters and `lr`.
        """
        return cls(
            network=network,
            epochs=own.epochs,
            optimizer=partial(optimizer, lr=own.lr),
            rate=lambda step, total: own.lr,
            loss=loss,
            validate=validate,
            clip=math.inf,
            anomalies=anomalies,
            fewest_steps=own.fewest_steps,
        )

    def lasting(self, steps: int) -> "Train":
        """This phase where an epoch has so many steps: its `epochs` are raised to take `fewest_steps`."""
        return replace(self, epochs=max(self.epochs, -(-self.fewest_steps // max(1, steps))))


Phase = Fit | FitCategories | Train


class Model(nn.Module):
    """What a method makes of good images, on one device."""

    @staticmethod
    @abstractmethod
    def wants(settings: Any, shape: EncoderShape) -> Wants:
        """What of the encoder's levels is read. Raises UserError where the settings do not suit the encoder."""

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """How it is trained, in order."""

    @abstractmethod
    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """Anomaly maps [B, 256, 256] of a batch, higher is more anomalous; `image_size` in pixels is the encoder's.
        `zero_shot` asks a model of other data; only methods that have that setting are asked.
        """

    def scores(self, maps: Tensor) -> Tensor:
        """The image score of each map [B, H, W]: the mean of its largest 1 %."""
        return image_scores(maps)

    def take_up(self, other: "Model") -> None:
        """Takes over what a trained model of another method learnt (see `Method.builds_on`). Raises UserError if it
        does not fit.
        """
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """All that is saved, by name, on the CPU; `load_tensors` is the counterpart."""
        return {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}

    def load_tensors(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Raises UserError naming `source` if a tensor is missing, unknown or of another shape."""
        load_exactly(self, tensors, source)
