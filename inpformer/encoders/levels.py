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

    `join` is "mean" for levels of one shape, such as a ViT's blocks, or "channels" to put them side by side. `grid` is
    the tokens a side that every level is brought to first, None to leave each on its own grid.
    """

    groups: tuple[tuple[int, ...], ...]
    join: Literal["mean", "channels"] = "mean"
    grid: int | None = None

    def __post_init__(self) -> None:
        require(self.grid is None or self.grid >= 1, "grid", self.grid, "at least 1 token a side, e.g. 16")

    @property
    def key(self) -> str:
        """A digest (hex) of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def shapes(self, levels: Sequence[Level]) -> tuple[Level, ...]:
        """What comes of levels of these shapes."""
        joined = []
        for group in self.groups:
            members = [levels[number] for number in group]
            channels = members[0].channels if self.join == "mean" else sum(level.channels for level in members)
            joined.append(Level(self.grid or members[0].side, channels))
        return tuple(joined)

    def of(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels, each [B, N, C] with its own N and C, to groups: float32, each [B, N, C]."""
        return [self._joined([self._on_grid(levels[number].float()) for number in group]) for group in self.groups]

    def _joined(self, members: Sequence[Tensor]) -> Tensor:
        if self.join == "channels":
            return torch.cat(list(members), dim=-1)
        total = members[0]
        for member in members[1:]:
            total = total + member
        return total / len(members)

    def _on_grid(self, level: Tensor) -> Tensor:
        side = round(level.shape[1] ** 0.5)
        if self.grid is None or self.grid == side:
            return level
        image = level.transpose(1, 2).unflatten(2, (side, side))
        if side >= self.grid:
            resized = F.adaptive_avg_pool2d(image, self.grid)
        else:
            resized = F.interpolate(image, size=(self.grid, self.grid), mode="bilinear", align_corners=False)
        return resized.flatten(2).transpose(1, 2)
