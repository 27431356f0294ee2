"""What a version must have to serve, whatever it is weighed against: thresholds, and a promise that held."""

import sys

from inpformer.errors import UserError
from pipelines.evaluate.promise import BROKEN_TAG, HELD_TAG, NOT_HELD, NOT_TESTED
from pipelines.platform.registry import Version, set_version_tags

# Of a version that was promoted although its false-alarm rate did not hold: the numbers that somebody accepted.
ACCEPTED_TAG = "promise.accepted"


class UnfitError(UserError):
    """A version is not to serve, whatever it is weighed against."""


def check_thresholds(model_name: str, version: Version) -> None:
    """Raises UnfitError for a version without thresholds: it cannot decide."""
    if version.tags.get("calibrated") == "no":
        raise UnfitError(
            f"{model_name} version {version.number} has no thresholds: run `python -m pipelines.recalibrate "
            f"{version.number}`."
        )


def check_promise(model_name: str, version: Version, accept: bool) -> str | None:
    """Raises UnfitError for a version whose false-alarm rate did not hold, or notes on it that this was accepted, with
    the numbers: others, found later, are to be accepted anew. Returns the numbers that are accepted, now or before.
    """
    held, broken = version.tags.get(HELD_TAG, NOT_TESTED), version.tags.get(BROKEN_TAG, "")
    if held == NOT_TESTED:
        print("whether its false-alarm rate holds was not tested on test images", file=sys.stderr, flush=True)
    if held != NOT_HELD:
        return None
    if version.tags.get(ACCEPTED_TAG) == broken:
        return broken
    if not accept:
        raise UnfitError(
            f"{model_name} version {version.number} did not keep its false-alarm rate: {broken}. Hold out other good "
            f"images and calibrate again, or promote it nevertheless with --accept-broken-promise."
        )
    set_version_tags(model_name, version.number, {ACCEPTED_TAG: broken})
    return broken
