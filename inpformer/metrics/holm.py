"""Several tests at once: p-values corrected for all of them, however they depend on each other.

Source: Holm, "A simple sequentially rejective multiple test procedure" (1979).
"""

from collections.abc import Hashable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """Each p-value corrected for all of them: with those below α, at most a probability of α that any is one by chance,
    however they depend on each other.
    """
    corrected: dict[K, float] = {}
    largest = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}


def levels(p_values: Mapping[K, float], level: float) -> dict[K, float]:
    """The level at which each one is tested, so that all together err with a probability of `level`: those that `holm`
    corrects to `level` or less are at most as large as theirs, and no others. An interval at that level says the same.
    """
    found: dict[K, float] = {}
    left = len(p_values)
    for name in sorted(p_values, key=lambda name: p_values[name]):
        found[name] = level / left
        if p_values[name] <= found[name]:  # else none of the rest is told apart, whatever its own p-value
            left = max(1, left - 1)
    return {name: found[name] for name in p_values}
