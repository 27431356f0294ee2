"""The paper's settings: what a detector was trained on, and so how it may be asked and what its numbers mean."""

import re

from inpformer.errors import UserError

MULTI_CLASS = "multi-class"  # one model for all categories
SINGLE_CLASS = "single-class"  # one model a category
SUPER_MULTI_CLASS = "super-multi-class"  # one model for the categories of several data sets
SEMI_SUPERVISED = "semi-supervised"  # one model for all categories, which has seen some real defects
ZERO_SHOT = "zero-shot"  # weights trained on other data; the method has maps of its own for that
# Before one of the first four: trained on so many images a category.
FEW_SHOT = "few-shot-{shots}-"

KNOWN = re.compile(
    rf"{ZERO_SHOT}|(few-shot-[1-9]\d*-)?({MULTI_CLASS}|{SINGLE_CLASS}|{SUPER_MULTI_CLASS}|{SEMI_SUPERVISED})"
)


def setting_name(mode: str, data_sets: int, shots: int | None) -> str:
    """The setting of a training: `mode` is one of the above but super-multi-class; `data_sets` how many the
    manifest holds; `shots` images a category, None for all.

    Raises UserError for few-shot and zero-shot at once.
    """
    if mode == ZERO_SHOT:
        if shots is not None:
            raise UserError(f"manifest.shots is {shots}: zero-shot trains on no image, set it to null.")
        return ZERO_SHOT
    classes = SUPER_MULTI_CLASS if mode == MULTI_CLASS and data_sets > 1 else mode
    return classes if shots is None else FEW_SHOT.format(shots=shots) + classes
