"""Promotion: moves @champion, the version that serves, to another version; the old one becomes @previous.

python -m pipelines.promote              # the challenger becomes champion
python -m pipelines.promote previous     # back to the one before
python -m pipelines.promote 7            # any version
"""

import argparse

from inpformer.errors import UserError
from pipelines import stage
from pipelines.params import read_section
from pipelines.register import RegisterSettings
from pipelines.tracking import CHALLENGER, CHAMPION, PREVIOUS, aliases, find_version, set_alias


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


def main() -> None:
    """Promotes and says what serves now."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", nargs="?", default=CHALLENGER, help="a version or an alias (default: challenger)")
    args = parser.parse_args()
    model_name = read_section("register", RegisterSettings).model_name
    number, previous = promote(model_name, args.version)
    print(
        f"{model_name} version {number} is @{CHAMPION}" + (f", version {previous} is @{PREVIOUS}" if previous else "")
    )


if __name__ == "__main__":
    stage.run(main)
