"""Features of made-up images, and a method of four phases, for tests of the loop without encoder and store."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inpformer import methods
from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.features.masks import pack_masks
from inpformer.methods.base import Anomalies, Fit, Groups, Model, Phase, Seeds, Terms, Train
from inpformer.methods.method import Method
from inpformer.methods.modes import MULTI_CLASS
from inpformer.nn.draws import Draws

# Two levels of a convolutional encoder, 3×3 and 2×2 tokens.
PYRAMID = EncoderShape((Level(3, 10), Level(2, 14)), None)


@dataclass(frozen=True)
class Noise:
    """Features of so many training images and five others, each of its own number; `masked` ones have a mask, as those
    of pictures with defects. Any process can make them again.
    """

    levels: tuple[Level, ...] = PYRAMID.levels
    images: int = 35
    kept: Wants | None = None
    category: str | None = None
    masked: bool = False

    def open(self) -> "Noise":
        return self

    def refuse_missing(self) -> None:
        pass

    def count(self, split: str) -> int:
        return {"train": self.images, "val": 5}[split]

    def categories(self, split: str, numbers: Sequence[int]) -> list[int]:
        """Two of them; in single-class training the second."""
        return [number % 2 if self.category is None else 1 for number in numbers]

    def read(self, split: str, numbers: Sequence[int]) -> list[Tensor]:
        images = [self._image(number + 1000 * (split == "val")) for number in numbers]
        levels = [torch.stack(level).half() for level in zip(*images, strict=True)]
        marked = torch.zeros(len(numbers), 256, 256, dtype=torch.bool)
        for mask, number in zip(marked, numbers, strict=True):
            mask[: 1 + number % 256] = True
        return [*levels, pack_masks(marked)] if self.masked else levels

    def _image(self, seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        # Images differ in scale of their noise, so that a mean of unequal shares would show.
        made = [
            torch.randn(1, one.tokens, one.channels, generator=generator) * (1 + seed % 7) + 1 for one in self.levels
        ]
        return [level[0] for level in (made if self.kept is None else self.kept.of(made))]


@dataclass(frozen=True)
class ToySettings:
    """Of the method below; with `anomalies` its second training takes pictures with defects."""

    epochs: int = 2
    lr: float = 1e-2
    anomalies: bool = False


class Toy(Model):
    """Fits a mean, trains with Adam, trains another part with SGD, and keeps tokens: a bank whose length nobody knows
    before. It draws at random in a fit and in training.
    """

    def __init__(self, settings: ToySettings, shape: EncoderShape) -> None:
        super().__init__()
        self.settings = settings
        channels = self.wants(settings, shape).shapes(shape.levels)[0].channels
        self.first, self.second = nn.Linear(channels, 4), nn.Sequential(nn.Dropout(0.1), nn.Linear(4, channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("bank", torch.zeros(0, channels))
        self.mean: Tensor
        self.bank: Tensor

    @staticmethod
    def wants(settings: ToySettings, shape: EncoderShape) -> Wants:
        return Wants((tuple(range(len(shape.levels))),), "channels", (2,))

    def phases(self) -> tuple[Phase, ...]:
        epochs, lr = self.settings.epochs, self.settings.lr
        adam, momentum = partial(torch.optim.Adam, lr=lr), partial(torch.optim.SGD, lr=lr, momentum=0.9)
        return (
            Fit(self._fit_mean),
            Train(self.first, epochs, adam, self._rate, self._small, self._validate, 1.0),
            Train(
                self.second, epochs, momentum, self._rate, self._rebuilt, self._validate, 0.1, self.settings.anomalies
            ),
            Fit(self._fill),
        )

    def load_tensors(self, tensors: Any, source: str) -> None:
        self.bank = self.bank.new_zeros(tensors["bank"].shape)
        super().load_tensors(tensors, source)

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        return torch.zeros(len(groups[0]), 256, 256)

    def _rate(self, step: int, total: int) -> float:
        return self.settings.lr * (1 - step / total)

    def _fit_mean(self, batches: Iterable[Groups]) -> None:
        tokens = torch.cat([groups[0].flatten(0, 1) for groups in batches])
        self.mean.copy_(tokens.mean(dim=0) + torch.rand(()))

    def _small(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds) -> Terms:
        noise = Draws(seeds, groups[0].device).normal(*groups[0].shape[1:])
        return {"total": network(groups[0] - self.mean + noise).square().mean()}

    def _rebuilt(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds) -> Terms:
        centred = groups[0] - self.mean
        assert (anomalies is not None) == self.settings.anomalies
        if anomalies is not None:
            assert anomalies.masks.shape == (len(groups[0]), 256, 256)
            centred = centred + anomalies.masks.mean(dim=(1, 2))[:, None, None] * anomalies.groups[0]
        found = (network(self.first(centred).detach()) - centred).square().mean()
        return {"total": found, "rebuilt": found}

    def _validate(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        return network(groups[0] - self.mean if network is self.first else self.first(groups[0])).square().mean()

    def _fill(self, batches: Iterable[Groups]) -> None:
        tokens = torch.cat([groups[0].flatten(0, 1) for groups in batches])
        self.bank = tokens[torch.randperm(len(tokens))[:7]]


TOY = Method("toy", ToySettings, (MULTI_CLASS,), {}, "tests.training.made_up:Toy")


@contextmanager
def toy_known() -> Iterator[None]:
    """The registry with the toy in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(methods.METHODS, "toy", TOY)
        yield
