"""Names of the paper's settings."""

import pytest

from inpformer.errors import UserError
from inpformer.methods.modes import KNOWN, setting_name


@pytest.mark.parametrize(
    ("mode", "data_sets", "shots", "name"),
    [
        ("multi-class", 0, None, "multi-class"),
        ("multi-class", 3, None, "super-multi-class"),
        ("single-class", 3, None, "single-class"),
        ("multi-class", 0, 4, "few-shot-4-multi-class"),
        ("single-class", 0, 1, "few-shot-1-single-class"),
        ("multi-class", 2, 4, "few-shot-4-super-multi-class"),
        ("zero-shot", 2, None, "zero-shot"),
    ],
)
def test_the_name_says_what_was_trained_on(mode: str, data_sets: int, shots: int | None, name: str) -> None:
    assert setting_name(mode, data_sets, shots) == name
    assert KNOWN.fullmatch(name)


def test_zero_shots_are_not_few_shots() -> None:
    with pytest.raises(UserError, match=r"manifest\.shots is 2: zero-shot trains on no image, set it to null"):
        setting_name("zero-shot", 0, 2)
    assert not any(KNOWN.fullmatch(name) for name in ("few-shot", "few-shot-0-multi-class", "multi", "few-shot-4"))
