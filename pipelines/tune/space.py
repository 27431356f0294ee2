"""The search space: which parameters of train may be searched, and Optuna's form of where."""

import itertools
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from inpformer.config import build, require
from inpformer.errors import UserError
from inpformer.training.settings import TrainSettings
from pipelines.tune.settings import Domain, TuneSettings
from pipelines.tune.winner import with_values

# Numbers that decide how a training runs or how long, not how good it can be.
NOT_SEARCHED = {"seed", "epochs", "fewest_steps", "num_workers", "checkpoint_every"}


def searchable(train: TrainSettings) -> dict[str, type]:
    """The dotted names of all numbers in the section `train` that may be searched, and their types."""
    numbers = (*_numbers(TrainSettings, ""), *_numbers(train.kind.settings, f"{train.method}."))
    return {name: kind for name, kind in numbers if name.rpartition(".")[2] not in NOT_SEARCHED}


def space_of(settings: TuneSettings, train: TrainSettings) -> dict[str, Domain]:
    """What is searched: what the settings say, or the method's own space."""
    if settings.space is not None:
        return settings.space
    own = train.kind.space.items()
    return {f"{train.method}.{name}": build(Domain, domain, f"{train.method}.space.{name}") for name, domain in own}


def _numbers(cls: type, prefix: str) -> Iterable[tuple[str, type]]:
    types = typing.get_type_hints(cls)
    for field in fields(cls):
        kind, name = types[field.name], f"{prefix}{field.name}"
        if isinstance(kind, type) and is_dataclass(kind):
            yield from _numbers(kind, f"{name}.")
        elif kind in (int, float):
            yield name, kind


def distributions(space: Mapping[str, Domain], train: TrainSettings) -> dict[str, BaseDistribution]:
    """The space as Optuna takes it.

    Raises UserError for a name that may not be searched, and for values that `train` cannot have.
    """
    known = searchable(train)
    values: dict[str, list[float]] = {}
    for name, domain in space.items():
        if name not in known:
            raise UserError(f"params.yaml: tune.space.{name} cannot be searched: use some of {', '.join(known)}.")
        values[name] = _extremes(domain, known[name], f"params.yaml: tune.space.{name}")
    # What train refuses is refused now, not by a trial in an hour. Values bound each other, so in all corners.
    for corner in itertools.product(*([min(v), max(v)] for v in values.values())):
        with_values(train, dict(zip(values, corner, strict=True)), "params.yaml: tune.space: train")
    return {name: _distribution(space[name], values[name], known[name]) for name in space}


def _extremes(domain: Domain, kind: type, where: str) -> list[float]:
    """The choices, or low and high, in the parameter's own type."""
    listed = domain.choices or tuple(v for v in (domain.low, domain.high) if v is not None)
    if kind is int:
        for value in listed:
            require(value == int(value), where, value, "a whole number")
    return [kind(value) for value in listed]


def _distribution(domain: Domain, values: list[float], kind: type) -> BaseDistribution:
    if domain.choices is not None:
        return CategoricalDistribution(values)
    low, high = values
    return IntDistribution(int(low), int(high), domain.log) if kind is int else FloatDistribution(low, high, domain.log)
