"""The paper's formulas as they stand, position by position."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]
Place = tuple[int, int]
Nine = Callable[[int, int, int], Sequence[Place]]


def mean_of_nine(grid: Array) -> Array:
    """AvgPool 3 × 3 of [n, n, C], zeros counted."""
    padded = np.pad(grid, ((1, 1), (1, 1), (0, 0)))
    side = len(grid)
    return sum(padded[y : y + side, x : x + side] for y in range(3) for x in range(3)) / 9


def support(features: Array, count: int) -> list[int]:
    """The `count` features of [N, C] with the smallest mean distance to the others."""
    away = cdist(features, features)
    return sorted(np.argsort(away.sum(axis=1) / (len(features) - 1))[:count].tolist())


def scores(
    grid: Array, count: int, weight: float, places: Callable[[int, int], Sequence[Place]], noise: Array | None = None
) -> Array:
    """|q - W S| of each position of [n, n, C], whose neighbours are at `places`; W solved as the paper has it."""
    side = len(grid)
    flat = grid.reshape(side * side, -1)
    texture = [flat[number] for number in support(flat, count)]
    found = np.zeros((side, side))
    for y in range(side):
        for x in range(side):
            query = grid[y, x][None]
            near = np.stack([grid[place] for place in places(y, x)])
            if noise is not None:
                near = near + noise[y * side + x]
            right = query @ near.T + weight * sum(one[None] @ near.T for one in texture)
            left = near @ near.T * (1 + weight * count)
            found[y, x] = np.linalg.norm(query - right @ np.linalg.pinv(left, rcond=1e-14) @ near)
    return found


def mirrored(side: int) -> Callable[[int, int], Sequence[Place]]:
    """The eight neighbours, beyond the edge mirrored at the outermost cells."""

    def inside(at: int) -> int:
        return min(abs(at), 2 * (side - 1) - abs(at))

    def places(y: int, x: int) -> Sequence[Place]:
        return [(inside(y + a), inside(x + b)) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]

    return places


def within(side: int) -> Callable[[int, int], Sequence[Place]]:
    """The eight others of the 3 × 3 window around a position, or of the nearest window within the grid."""

    def places(y: int, x: int) -> Sequence[Place]:
        top, left = (min(max(at - 1, 0), side - 3) for at in (y, x))
        window = [(top + a, left + b) for a in range(3) for b in range(3)]
        return [place for place in window if place != (y, x)]

    return places
