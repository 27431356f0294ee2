"""The table that calibrate leaves: the score of every held-out good image, and on which device it was computed."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from inpformer.config import build
from inpformer.errors import UserError
from pipelines.platform import files


@dataclass(frozen=True)
class HeldOutScore:
    """A line: `path` is relative to the data folder, `sha256` (hex) that of the file; `fold` the one whose model gave
    the score, None where there are no folds.
    """

    path: str
    category: str
    part: str
    sha256: str
    score: float
    device: str
    fold: int | None = None


def write_scores(scores: Sequence[HeldOutScore], file: Path) -> None:
    """Writes the table; `read_scores` is its counterpart."""
    with files.written_whole(file) as temporary, temporary.open("w", newline="") as f:
        writer = csv.DictWriter(f, [field.name for field in fields(HeldOutScore)])
        writer.writeheader()
        writer.writerows(map(asdict, scores))


def read_scores(file: Path) -> list[HeldOutScore]:
    """Raises UserError if `file` is missing or damaged."""
    try:
        with file.open(newline="") as f:
            lines = [
                build(HeldOutScore, {**line, "score": float(line["score"]), "fold": _fold(line)}, str(file))
                for line in csv.DictReader(f)
            ]
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise UserError(f"{file} cannot be read ({error}): run `dvc repro --force --single-item calibrate`.") from None
    if not lines:
        raise UserError(f"{file} holds no score: there are no good images in val, raise manifest.val_fraction.")
    return lines


def _fold(line: Mapping[str, str]) -> int | None:
    return int(line["fold"]) if line.get("fold") else None
