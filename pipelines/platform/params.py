"""The only reader of params.yaml: one section a stage, each checked by the dataclass that owns it."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import yaml

from inpformer.config import build
from inpformer.errors import UserError

T = TypeVar("T")
PARAMS_FILE = Path("params.yaml")
# Who owns each section: named, not imported, so that a command imports what it needs and no more.
OWNERS = {
    "demo_data": "demo.settings:DemoData",
    "manifest": "pipelines.manifest.settings:ManifestSettings",
    "gate": "pipelines.gate.settings:GateSettings",
    "features": "pipelines.features.settings:FeatureSettings",
    "tune": "pipelines.tune.settings:TuneSettings",
    "train": "inpformer.training.settings:TrainSettings",
    "calibrate": "inpformer.judging.settings:CalibrationSettings",
    "evaluate": "pipelines.evaluate.settings:EvaluateSettings",
    "register": "pipelines.register.settings:RegisterSettings",
}


def read_section(section: str, cls: type[T]) -> T:
    """Builds the dataclass `cls` from a section of params.yaml in the working directory. All sections are checked
    first: a mistake in a later one is told now, not by its stage in an hour.

    Raises UserError if the file or a key is missing, for an unknown section or key and for an impossible value.
    """
    values = _read_file()
    for name, given in values.items():
        module, _, owner = OWNERS[name].partition(":")
        build(getattr(import_module(module), owner), given, f"{PARAMS_FILE}: {name}")
    return build(cls, values.get(section, {}), f"{PARAMS_FILE}: {section}")


def read_alone(section: str, cls: type[T]) -> T:
    """`read_section` for a command that is to answer at once: other sections, whose owners may need torch, are not
    checked.
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
    if unknown := [key for key in values if key not in OWNERS]:
        raise UserError(f"{PARAMS_FILE}: {unknown[0]} is not a known section: use one of {', '.join(OWNERS)}.")
    return values


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one table with dotted names: what MLflow shows."""
    flattened: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flattened |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flattened
