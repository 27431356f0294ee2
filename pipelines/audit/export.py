"""The record as a file: a JSON object a line, `entry` and its `signature`; what MLflow loses, it still shows."""

import json
from pathlib import Path

from inpformer.errors import UserError
from pipelines.platform import files
from pipelines.platform.ledger import Held
from pipelines.record.entry import canonical

LONGEST_LINE = 100_000  # characters


def write_export(held: Held, file: Path) -> None:
    """Writes the file; `read_export` is its counterpart."""
    with files.written_whole(file) as temporary, temporary.open("w", encoding="utf-8") as out:
        for number, text in held.texts.items():
            try:
                entry = json.loads(text)
                whole = entry if canonical(entry) == text else text
            except (ValueError, RecursionError):  # what somebody put in its place: as it is
                whole = text
            line = {"number": number, "entry": whole, "signature": held.signatures.get(number)}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_export(file: Path) -> Held:
    """Raises UserError for a file that is no export, with the line."""
    texts: dict[int, str] = {}
    signatures: dict[int, str] = {}
    try:
        with file.open(encoding="utf-8") as lines:
            number = 0
            while line := lines.readline(LONGEST_LINE):
                number += 1
                try:
                    values = json.loads(line)
                    key, entry, signature = values["number"], values["entry"], values["signature"]
                    text = entry if isinstance(entry, str) else canonical(entry)
                    known = type(key) is int and 0 < key < 10**6 and key not in texts
                    if not known or not isinstance(signature, str | None):
                        raise ValueError("no number of its own")
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise UserError(
                        f"{file}, line {number}: no entry of an export ({error}): export again, or give another file."
                    ) from None
                texts[key] = text
                if signature is not None:
                    signatures[key] = signature
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file} cannot be read ({error}): give a file of `python -m pipelines.audit export`."
        ) from None
    return Held(texts, signatures)
