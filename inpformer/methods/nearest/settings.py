"""The settings of nearest neighbours: the section `train.nearest`."""

from dataclasses import dataclass
from typing import Any

from inpformer.config import require

SPACE: dict[str, dict[str, Any]] = {
    "neighbours": {"low": 1, "high": 9},
    "coreset_share": {"low": 0.005, "high": 0.1, "log": True},
}


@dataclass(frozen=True)
class NearestSettings:
    """A token's distance is the mean to its `neighbours` nearest in the memory, which keeps `coreset_share` of all
    training tokens. `grid` (tokens a side) and `channels` (of the projection) are for convolutional encoders; null for
    ViTs.
    """

    neighbours: int = 1
    coreset_share: float = 0.02
    grid: int | None = 16
    channels: int | None = 128

    def __post_init__(self) -> None:
        require(1 <= self.neighbours <= 100, "neighbours", self.neighbours, "between 1 and 100")
        require(0 < self.coreset_share <= 1, "coreset_share", self.coreset_share, "above 0 and at most 1, e.g. 0.02")
        require(self.grid is None or self.grid >= 1, "grid", self.grid, "at least 1 token a side, or null for ViTs")
        require(self.channels is None or self.channels >= 2, "channels", self.channels, "at least 2, or null for ViTs")
