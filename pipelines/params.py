"""The only reader of params.yaml: one section a stage, each checked by the dataclass that owns it."""

import os
from pathlib import Path
from typing import Any, TypeVar

import yaml

from inpformer.errors import UserError
from inpformer.settings import build

T = TypeVar("T")
PARAMS_FILE = Path("params.yaml")
SECTIONS = ("demo_data", "manifest", "gate", "features", "tune", "train", "calibrate", "evaluate", "register")


def read_section(section: str, cls: type[T]) -> T:
    """Builds the dataclass `cls` from a section of params.yaml in the working directory.

    Raises UserError if the file or the section is missing, for an unknown key and for an impossible value.
    """
    return build(cls, _read_file().get(section, {}), f"{PARAMS_FILE}: {section}")


def read_all() -> dict[str, dict[str, Any]]:
    """The whole of params.yaml, as written: for the record of a run, not for use."""
    return _read_file()


def _read_file() -> dict[str, Any]:
    try:
        values = yaml.safe_load(PARAMS_FILE.read_text())
    except FileNotFoundError:
        raise UserError(f"{PARAMS_FILE} is not in {os.getcwd()}: run from the root of the repository.") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{PARAMS_FILE} is not valid YAML ({reason}): mend it and run again.") from None
    if not isinstance(values, dict):
        raise UserError(f"{PARAMS_FILE} holds no sections: restore it with `git checkout {PARAMS_FILE}`.")
    if unknown := [key for key in values if key not in SECTIONS]:
        raise UserError(f"{PARAMS_FILE}: {unknown[0]} is not a known section: use one of {', '.join(SECTIONS)}.")
    return values


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one table with dotted names: what MLflow shows."""
    flattened: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flattened |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flattened
