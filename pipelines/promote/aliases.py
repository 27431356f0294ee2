"""Promotion: moves @champion, the version that serves, to another version; the old one becomes @previous."""

import json
from argparse import Namespace

from inpformer.errors import UserError
from pipelines.evaluate.promise import BROKEN_TAG, HELD_TAG, NOT_HELD, NOT_TESTED
from pipelines.platform.aliases import CHAMPION, PREVIOUS
from pipelines.platform.params import read_section
from pipelines.platform.registry import Version, aliases, find_version, note, set_alias, set_note, set_version_tags
from pipelines.register.settings import RegisterSettings

# Kept beside the model while aliases move, as MLflow sets one alias at a time.
UNDERWAY = "inpformer.promotion"
# Of a version that was promoted although its false-alarm rate did not hold: the numbers that somebody accepted.
ACCEPTED_TAG = "promise.accepted"


def promote(model_name: str, wanted: str, accept: bool = False) -> tuple[str, str | None]:
    """Makes `wanted`, a version or an alias, the champion; returns its version and the one before it, if any. Says
    what it is made of before it moves.

    Promoting the champion again changes nothing. Raises UserError if there is no such version or alias, it has no
    thresholds, or its false-alarm rate did not hold on the test images, unless somebody accepts that: now (`accept`),
    or when it was promoted before.
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
    check_promise(model_name, version, accept)
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


def check_promise(model_name: str, version: Version, accept: bool) -> None:
    """Refuses a version whose false-alarm rate did not hold, or notes on it that this was accepted, with the numbers:
    others, found later, are to be accepted anew.
    """
    held, broken = version.tags.get(HELD_TAG, NOT_TESTED), version.tags.get(BROKEN_TAG, "")
    if held == NOT_TESTED:
        print("whether its false-alarm rate holds was not tested on test images", flush=True)
    if held != NOT_HELD or version.tags.get(ACCEPTED_TAG) == broken:
        return
    if not accept:
        raise UserError(
            f"{model_name} version {version.number} did not keep its false-alarm rate: {broken}. Hold out other good "
            f"images and calibrate again, or promote it nevertheless with --accept-broken-promise."
        )
    set_version_tags(model_name, version.number, {ACCEPTED_TAG: broken})


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
    number, previous = promote(model_name, args.version, args.accept_broken_promise)
    print(
        f"{model_name} version {number} is @{CHAMPION}" + (f", version {previous} is @{PREVIOUS}" if previous else "")
    )
