"""What the search found, artifacts/winner.json, and how train takes it. Free of torch and Ray."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from inpformer.config import build
from inpformer.errors import UserError
from inpformer.training.settings import TrainSettings
from pipelines.platform import files

T = TypeVar("T")
Values = Mapping[str, Any]  # by the name in the section `train`, dotted: inp_former.lr


def write_winner(file: Path, objective: float | None, values: Values) -> None:
    """Writes the winner's values, and what it reached; `read_winner` is the counterpart."""
    with files.written_whole(file) as temporary:
        temporary.write_text(json.dumps({"objective": objective, "train": dict(values)}, indent=2) + "\n")


def read_winner(file: Path) -> dict[str, Any]:
    """The values that train takes instead of those in params.yaml; none if nothing was searched.

    Raises UserError if `file` is missing or is not what `write_winner` writes.
    """
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): run `dvc repro --force --single-item tune`.") from None
    values = found.get("train") if isinstance(found, dict) and set(found) == {"objective", "train"} else None
    if not isinstance(values, dict) or not all(type(value) in (int, float) for value in values.values()):
        raise UserError(
            f"{file} does not hold just objective and train, a table of numbers: run `dvc repro --force --single-item "
            "tune`."
        )
    return values


def with_values(settings: T, values: Values, where: str) -> T:
    """A dataclass of settings with other values under some of its dotted names; `where` names it in messages.

    Raises UserError for an unknown name, and for a value that the dataclass refuses.
    """
    merged = settings.table if isinstance(settings, TrainSettings) else asdict(settings)  # type: ignore[call-overload]
    for name, value in values.items():
        *tables, key = name.split(".")
        table = merged
        for part in tables:
            table = table.get(part)
            if not isinstance(table, dict):
                raise UserError(f"{where}.{name} is not a known key: mend or remove it.")
        table[key] = value
    return build(type(settings), merged, where)
