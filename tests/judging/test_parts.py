"""Which images are of one part."""

import pytest

from inpformer.judging.parts import parts_of


@pytest.mark.parametrize(
    ("names", "digests", "groups"),
    [
        ([], [], []),
        (["", ""], ["a", "b"], [{0}, {1}]),
        (["p", "", "p", "q"], ["a", "b", "c", "d"], [{0, 2}, {1}, {3}]),
        (["", "", ""], ["a", "b", "a"], [{0, 2}, {1}]),
        # A copy of p's picture under q's name: nobody can say which it is, so both count as one.
        (["p", "q", "q", ""], ["a", "a", "b", "b"], [{0, 1, 2, 3}]),
    ],
)
def test_images_of_one_name_and_copies_belong_together(
    names: list[str], digests: list[str], groups: list[set[int]]
) -> None:
    parts = parts_of(names, digests).tolist()
    found = [{n for n, part in enumerate(parts) if part == number} for number in range(len(set(parts)))]
    assert sorted(found, key=min) == groups
