"""Promotion: moves @champion, the version that serves, to another version; the old one becomes @previous."""

from argparse import Namespace

from inpformer.errors import UserError
from pipelines.platform.aliases import CHAMPION, PREVIOUS
from pipelines.platform.params import read_section
from pipelines.platform.tracking import aliases, find_version, set_alias
from pipelines.register.settings import RegisterSettings


def promote(model_name: str, wanted: str) -> tuple[str, str | None]:
    """Makes `wanted`, a version or an alias, the champion; returns its version and the one before it, if any.

    Promoting the champion again changes nothing. Raises UserError if there is no such version or alias, or
    it has no thresholds.
    """
    version = find_version(model_name, wanted)
    number = version.version
    if version.tags.get("calibrated") == "no":
        raise UserError(
            f"{model_name} version {number} has no thresholds: run `python -m pipelines.recalibrate {number}`."
        )
    held = aliases(model_name)
    old = held.get(CHAMPION)
    if old == number:
        return number, held.get(PREVIOUS)
    # In this order, so that at no moment the way back is lost.
    if old is not None:
        set_alias(model_name, PREVIOUS, old)
    set_alias(model_name, CHAMPION, number)
    return number, old


def run(args: Namespace) -> None:
    """Promotes and says what serves now."""
    model_name = read_section("register", RegisterSettings).model_name
    number, previous = promote(model_name, args.version)
    print(
        f"{model_name} version {number} is @{CHAMPION}" + (f", version {previous} is @{PREVIOUS}" if previous else "")
    )
