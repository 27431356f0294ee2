"""The only reader of params.yaml: one section a stage or command, each checked by the dataclass that owns it."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

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
    "promote": "pipelines.promote.settings:PromoteSettings",
}
# What other sections ask of the method.
ASKED_OF_METHODS = (("manifest", "shots"), ("calibrate", "folds"), ("evaluate", "backend"))


def read_section(section: str, cls: type[T]) -> T:
    """Builds the dataclass `cls` from a section of params.yaml in the working directory, after `check`.

    Raises UserError as that does, and if the section lacks a key.
    """
    return build(cls, check().get(section, {}), f"{PARAMS_FILE}: {section}")


def check() -> dict[str, Any]:
    """All of params.yaml, as written, once every section is found to be possible, whoever owns it: a mistake in a later
    stage's is told now, not by that stage in an hour.

    Raises UserError if the file is missing or broken, for an unknown section or key, for a key that is there twice, for
    an impossible value and for what the method has not.
    """
    values = _read_file()
    made: dict[str, Any] = {}
    for name, given in values.items():
        module, _, owner = OWNERS[name].partition(":")
        made[name] = build(getattr(import_module(module), owner), given, f"{PARAMS_FILE}: {name}")
    if "train" in made:
        asked = {key: getattr(made.get(section), key, None) for section, key in ASKED_OF_METHODS}
        try:
            made["train"].refuse_asked(**asked)
        except UserError as error:
            raise UserError(f"{PARAMS_FILE}: {error}") from None
    return values


def read_all() -> dict[str, dict[str, Any]]:
    """The whole of params.yaml, as written: for the record of a run, not for use."""
    return _read_file()


def _read_file() -> dict[str, Any]:
    try:
        # As DVC reads it: what it compares is what is used.
        values = YAML(typ="safe").load(PARAMS_FILE)
    except FileNotFoundError:
        raise UserError(f"{PARAMS_FILE} is not in {os.getcwd()}: run from the root of the repository.") from None
    except OSError as error:
        raise UserError(f"{PARAMS_FILE} cannot be read ({error.strerror}): make it a file you may read.") from None
    except DuplicateKeyError as error:
        found, line = str(error.problem).removeprefix("found "), error.problem_mark.line + 1
        raise UserError(f"{PARAMS_FILE}, line {line}: {found}: remove one of them.") from None
    except (YAMLError, ValueError, RecursionError) as error:  # ValueError: a date or a number that cannot be
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
