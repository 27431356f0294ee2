"""Writes a preset's values into params.yaml, leaving its comments and all other values as they are.

python -m pipelines.preset paper     # or another file of presets/
"""

import argparse
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from inpformer.errors import UserError
from pipelines.platform import command, files
from pipelines.platform.params import PARAMS_FILE, read_all

PRESETS = Path("presets")


def apply_preset(name: str) -> None:
    """Raises UserError if there is no such preset."""
    known = sorted(file.stem for file in PRESETS.glob("*.yaml"))
    if name not in known:
        raise UserError(f"there is no preset {name}: choose one of {', '.join(known)}.")
    read_all()  # says what is wrong with params.yaml, if anything is
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    params = yaml.load(PARAMS_FILE)
    _merge(params, yaml.load(PRESETS / f"{name}.yaml"))
    with files.written_whole(PARAMS_FILE) as temporary:
        yaml.dump(params, temporary)


def _merge(into: MutableMapping[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            _merge(into[key], value)
        else:
            into[key] = value


def main() -> None:
    """Applies the preset named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    name = parser.parse_args().name
    apply_preset(name)
    print(
        f"{PARAMS_FILE} now holds the preset {name}; `dvc repro` runs with it, `git checkout {PARAMS_FILE}` undoes it"
    )


if __name__ == "__main__":
    command.run(main)
