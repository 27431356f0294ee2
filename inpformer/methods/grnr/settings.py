"""The settings of GRNR: the section `train.grnr`."""

from dataclasses import dataclass
from typing import Any

from inpformer.config import require

# n and λ.
SPACE: dict[str, dict[str, Any]] = {
    "neighbours": {"low": 10, "high": 160, "log": True},
    "weight": {"low": 0.01, "high": 10.0, "log": True},
}


@dataclass(frozen=True)
class GrnrSettings:
    """`neighbours` is the paper's n: how many features, those nearest to all others of the image, stand for its
    texture. `weight` is its λ: how much each of them counts beside the feature that is judged.
    """

    neighbours: int = 40
    weight: float = 5.0

    def __post_init__(self) -> None:
        right = "between 1 and 100000 (the paper's n is 40)"
        require(1 <= self.neighbours <= 100_000, "neighbours", self.neighbours, right)
        require(0 <= self.weight <= 1e6, "weight", self.weight, "between 0 and 1000000 (the paper's λ is 5)")
