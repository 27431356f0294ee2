"""Building the configuration dataclasses: what is converted, and the sentence for everything that is refused."""

from dataclasses import dataclass
from typing import Any

import pytest

from inpformer.config import build, require
from inpformer.errors import UserError


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5

    def __post_init__(self) -> None:
        require(0 < self.rate < 1, "rate", self.rate, "between 0 and 1")


@dataclass(frozen=True)
class Outer:
    name: str
    count: int = 1
    quiet: bool = False
    sizes: tuple[int, ...] = ()
    limit: float | None = 2.0
    inner: Inner = Inner()


def outer(**values: Any) -> Outer:
    return build(Outer, {"name": "a", **values}, "params.yaml: train")


def test_what_is_not_given_keeps_its_default() -> None:
    assert outer(count=3) == Outer("a", count=3)


def test_whole_numbers_become_floats_and_lists_tuples() -> None:
    built = outer(limit=3, sizes=[4, 8])
    assert (built.limit, built.sizes) == (3.0, (4, 8))
    assert isinstance(built.limit, float)


def test_null_is_taken_only_where_it_is_allowed() -> None:
    assert outer(limit=None).limit is None
    with pytest.raises(UserError, match=r"^params\.yaml: train\.count is None: it must be a whole number\.$"):
        outer(count=None)


def test_a_nested_section_is_built_too() -> None:
    assert outer(inner={"rate": 0.25}).inner == Inner(0.25)
    with pytest.raises(UserError, match=r"^params\.yaml: train\.inner must be a table .*not 0\.25"):
        outer(inner=0.25)


@pytest.mark.parametrize("unknown", [{"cuont": 3}, {"cuont": 3, 1: 2, False: 0}])
def test_an_unknown_key_is_named_with_the_known_ones(unknown: dict[Any, int]) -> None:
    with pytest.raises(UserError, match=r"is not a known key: use one of name, count, quiet, sizes, limit, inner\.$"):
        build(Outer, {"name": "a", **unknown}, "params.yaml: train")


def test_a_nested_unknown_key_has_its_dotted_path() -> None:
    with pytest.raises(UserError, match=r"^params\.yaml: train\.inner\.rat is not a known key: use one of rate\.$"):
        outer(inner={"rat": 0.5})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(UserError, match=r"^params\.yaml: train\.name is missing: add it\.$"):
        build(Outer, {}, "params.yaml: train")


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("count", True, "a whole number"),
        ("count", 1.0, "a whole number"),
        ("count", "1", "a whole number"),
        ("limit", "1e-3", "a number"),
        ("limit", float("nan"), "a number within ±2⁶³"),
        ("limit", float("-inf"), "a number within ±2⁶³"),
        ("limit", True, "a number"),
        ("quiet", 1, "true or false"),
        ("name", 3, "a text"),
        ("sizes", 4, "a list"),
        ("sizes", "48", "a list"),
    ],
)
def test_a_value_of_another_type_is_refused(key: str, value: object, right: str) -> None:
    with pytest.raises(UserError, match=rf"^params\.yaml: train\.{key} is {value!r}: it must be {right}\.$"):
        outer(**{key: value})


def test_a_wrong_list_item_is_named_by_its_place() -> None:
    with pytest.raises(UserError, match=r"train\.sizes\[1\] is 'x': it must be a whole number"):
        outer(sizes=[4, "x"])


@pytest.mark.parametrize("rate", [0, 1.5])
def test_an_impossible_value_is_refused_with_its_dotted_path(rate: float) -> None:
    with pytest.raises(UserError, match=r"^params\.yaml: train\.inner\.rate is \S+: it must be between 0 and 1\.$"):
        outer(inner={"rate": rate})


def test_a_section_that_is_no_table_is_refused() -> None:
    with pytest.raises(UserError, match=r"^params\.yaml: train must be a table of keys and values, not \['name'\]"):
        build(Outer, ["name"], "params.yaml: train")  # type: ignore[arg-type]
