"""Holm's correction by hand, and that its levels say what its p-values do."""

import numpy as np
import pytest

from inpformer.metrics.holm import holm, levels


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_levels_by_hand() -> None:
    assert levels({"a": 0.01, "b": 0.04, "c": 0.02}, 0.06) == pytest.approx({"a": 0.02, "b": 0.06, "c": 0.03})
    # Once one is not told apart, none of the rest is, whatever its own p-value.
    assert levels({"a": 0.03, "b": 0.031, "c": 0.9}, 0.06) == pytest.approx({"a": 0.02, "b": 0.02, "c": 0.02})
    assert levels({}, 0.05) == {}


def test_a_p_value_reaches_its_level_where_the_corrected_one_reaches_the_whole() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        p_values = {n: float(p) for n, p in enumerate(rng.random(6) ** 4)}
        corrected, own = holm(p_values), levels(p_values, 0.05)
        assert {n for n in p_values if p_values[n] <= own[n]} == {n for n in p_values if corrected[n] <= 0.05}
