"""What an encoder gives of an image, level by level, and what a method takes of it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from inpformer.config import require
from inpformer.encoders.shapes import Level


@dataclass(frozen=True)
class Wants:
    """Groups of levels (their numbers, in the encoder's order), each joined into one.

    `join` is "mean" for levels of one shape, such as a ViT's blocks, or "channels" to put them side by side. `grids`
    are the tokens a side that the levels of each group are brought to first, None to leave each on its own grid.
    """

    groups: tuple[tuple[int, ...], ...]
    join: Literal["mean", "channels"] = "mean"
    grids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.grids is not None:
            right = "as many as groups, each at least 1 token a side, e.g. 16"
            require(len(self.grids) == len(self.groups) and min(self.grids) >= 1, "grids", self.grids, right)

    @property
    def key(self) -> str:
        """A digest (hex) of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def shapes(self, levels: Sequence[Level]) -> tuple[Level, ...]:
        """What comes of levels of these shapes."""
        joined = []
        for group, grid in self._with_grids:
            members = [levels[number] for number in group]
            channels = members[0].channels if self.join == "mean" else sum(level.channels for level in members)
            joined.append(Level(grid or members[0].side, channels))
        return tuple(joined)

    def of(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels, each [B, N, C] with its own N and C, to groups: float32, each [B, N, C]."""
        return [
            self._joined([_on_grid(levels[number].float(), grid) for number in group])
            for group, grid in self._with_grids
        ]

    @property
    def _with_grids(self) -> list[tuple[tuple[int, ...], int | None]]:
        return list(zip(self.groups, self.grids or (None,) * len(self.groups), strict=True))

    def _joined(self, members: Sequence[Tensor]) -> Tensor:
        if self.join == "channels":
            return torch.cat(list(members), dim=-1)
        total = members[0]
        for member in members[1:]:
            total = total + member
        return total / len(members)


def _on_grid(level: Tensor, grid: int | None) -> Tensor:
    side = round(level.shape[1] ** 0.5)
    if grid is None or grid == side:
        return level
    image = level.transpose(1, 2).unflatten(2, (side, side))
    if side >= grid:
        resized = F.adaptive_avg_pool2d(image, grid)
    else:
        resized = F.interpolate(image, size=(grid, grid), mode="bilinear", align_corners=False)
    return resized.flatten(2).transpose(1, 2)
