"""Promotion: moves @champion, the version that serves, to another version; the old one becomes @previous."""

import json
from argparse import Namespace

from inpformer.errors import UserError
from pipelines.platform.aliases import CHAMPION, PREVIOUS
from pipelines.platform.params import read_section
from pipelines.platform.registry import aliases, find_version, note, set_alias, set_note
from pipelines.register.settings import RegisterSettings

# Kept beside the model while aliases move, as MLflow sets one alias at a time.
UNDERWAY = "inpformer.promotion"


def promote(model_name: str, wanted: str) -> tuple[str, str | None]:
    """Makes `wanted`, a version or an alias, the champion; returns its version and the one before it, if any. Says
    what it is made of before it moves.

    Promoting the champion again changes nothing. Raises UserError if there is no such version or alias, or
    it has no thresholds.
    """
    settle(model_name)
    version = find_version(model_name, wanted)
    number = version.number
    print(f"{model_name} version {number}:", *version.description.splitlines(), sep="\n  ", flush=True)
    if version.tags.get("calibrated") == "no":
        raise UserError(
            f"{model_name} version {number} has no thresholds: run `python -m pipelines.recalibrate {number}`."
        )
    held = aliases(model_name)
    old, older = held.get(CHAMPION), held.get(PREVIOUS)
    if old == number:
        return number, older
    if old is None:
        set_alias(model_name, CHAMPION, number)
        return number, None
    # Wherever this is cut off, the note knows the way back, and @previous is never the champion.
    set_note(model_name, UNDERWAY, json.dumps({"from": old, "to": number, "previous": older}))
    if older == number:
        set_alias(model_name, PREVIOUS, None)
    set_alias(model_name, CHAMPION, number)
    set_alias(model_name, PREVIOUS, old)
    set_note(model_name, UNDERWAY, "")
    return number, old


def settle(model_name: str) -> None:
    """Brings a promotion that was cut off to its end where the champion had moved, and undoes it where it had not."""
    held = aliases(model_name)
    if not (text := note(model_name, UNDERWAY)):
        return
    begun = json.loads(text)
    previous = begun["from"] if held.get(CHAMPION) == begun["to"] else begun["previous"]
    if previous not in (held.get(PREVIOUS), held.get(CHAMPION)):
        set_alias(model_name, PREVIOUS, previous)
    set_note(model_name, UNDERWAY, "")


def run(args: Namespace) -> None:
    """Promotes and says what serves now."""
    model_name = read_section("register", RegisterSettings).model_name
    number, previous = promote(model_name, args.version)
    print(
        f"{model_name} version {number} is @{CHAMPION}" + (f", version {previous} is @{PREVIOUS}" if previous else "")
    )
