"""Strict building of the frozen configuration dataclasses that stand beside their owners."""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, TypeVar

from inpformer.errors import UserError

T = TypeVar("T")
LARGEST = 2**63 - 1  # of what machines count with
SHOWN = 200  # characters of a value in a message


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Builds the dataclass `cls` from a mapping such as a section of params.yaml.

    `where` names the mapping in messages ("params.yaml: train"). Lists become tuples and whole numbers become
    floats where the field asks for them; nothing else is converted.

    A class that reads its table in a way of its own has a class method `from_table`.

    Raises UserError for an unknown or missing key, a value of another type, and whatever the dataclass itself
    refuses in `__post_init__`.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where} must be a table of keys and values, not {_shown(values)}.")
    own: Callable[[Mapping[str, Any], str], T] | None = getattr(cls, "from_table", None)
    return build_fields(cls, values, where) if own is None else own(values, where)


def build_fields(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """As `build`, field by field."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where} must be a table of keys and values, not {_shown(values)}.")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(fields), key=str):
        raise UserError(f"{where}.{unknown[0]} is not a known key: use one of {', '.join(fields)}.")
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{where}.{missing[0]} is missing: add it.")
    types = typing.get_type_hints(cls)
    converted = {name: _convert(value, types[name], f"{where}.{name}") for name, value in values.items()}
    try:
        return cls(**converted)
    except UserError as error:
        raise UserError(f"{where}.{error}") from None


def require(condition: bool, key: str, value: object, right: str) -> None:
    """Refuses an impossible value from a dataclass's `__post_init__`: `key` is `value`, but must be `right`.

    Raises UserError if `condition` is false.
    """
    if not condition:
        raise UserError(f"{key} is {_shown(value)}: it must be {right}.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _convert(value: Any, wanted: Any, key: str) -> Any:
    origin = typing.get_origin(wanted)
    if wanted is Any:
        return value
    if origin is UnionType or origin is typing.Union:
        options = typing.get_args(wanted)
        if value is None and NoneType in options:
            return None
        # A list is for the option that is one, everything else for the first.
        lists = [o for o in options if typing.get_origin(o) is tuple and isinstance(value, list | tuple)]
        return _convert(value, (lists or [o for o in options if o is not NoneType])[0], key)
    if origin is typing.Literal and value in typing.get_args(wanted):
        return value
    if origin is tuple and isinstance(value, list | tuple):
        item = typing.get_args(wanted)[0]
        return tuple(_convert(v, item, f"{key}[{i}]") for i, v in enumerate(value))
    if origin is dict and isinstance(value, dict) and all(isinstance(name, str) for name in value):
        item = typing.get_args(wanted)[1]
        return {name: _convert(v, item, f"{key}.{name}") for name, v in value.items()}
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        return build(wanted, value, key)
    if wanted in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        if not -LARGEST <= value <= LARGEST:  # infinity and NaN are not, either
            found = value if isinstance(value, float) else "too large"
            raise UserError(f"{key} is {found}: it must be a number within ±2⁶³.")
        if wanted is float:
            return float(value)
    if isinstance(wanted, type) and isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        return value
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    others = {
        tuple: "a list",
        dict: "a table with texts as keys",
        typing.Literal: f"one of {', '.join(map(str, typing.get_args(wanted)))}",
    }
    raise UserError(f"{key} is {_shown(value)}: it must be {names.get(wanted, others.get(origin, wanted))}.")
