"""From levels of a pyramid, each on its own grid, to tokens of one grid, and back.

Shapes: B images, C channels on h × h places; N = n² tokens, row by row, each of (h/n)² places.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from inpformer.nn.patches import cells
from inpformer.nn.transformer import patch_convolution


def to_grid(tokens: Tensor) -> Tensor:
    """[B, n², C] to [B, C, n, n]."""
    side = round(tokens.shape[1] ** 0.5)
    grid: Tensor = tokens.transpose(1, 2).unflatten(2, (side, side)).contiguous()
    return grid


def to_tokens(grid: Tensor) -> Tensor:
    """[B, C, n, n] to [B, n², C]."""
    return grid.flatten(2).transpose(1, 2)


class LevelEmbedding(nn.Module):
    """A convolution a level, whose patches are as large as its steps."""

    def __init__(self, channels: Sequence[int], patches: Sequence[int], width: int) -> None:
        """`channels` of each level, and how many of its places a side make a token of `width`."""
        super().__init__()
        self.levels = nn.ModuleList(
            patch_convolution(before, width, patch) for before, patch in zip(channels, patches, strict=True)
        )

    def forward(self, grids: Sequence[Tensor]) -> list[Tensor]:
        """[B, C, h, h] each, to [B, N, width] each."""
        return [to_tokens(level(grid)) for level, grid in zip(self.levels, grids, strict=True)]


class LevelPrediction(nn.Module):
    """The way back: a linear layer a level, from a token to all places of its patch, row by row, channels together."""

    def __init__(self, channels: Sequence[int], patches: Sequence[int], width: int) -> None:
        """As `LevelEmbedding`."""
        super().__init__()
        self.patches = tuple(patches)
        self.levels = nn.ModuleList(
            nn.Linear(width, patch**2 * after) for after, patch in zip(channels, patches, strict=True)
        )

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """[B, N, width] to [B, C, h, h] each."""
        found = [cells(level(tokens), patch) for level, patch in zip(self.levels, self.patches, strict=True)]
        return [grid.permute(0, 3, 1, 2) for grid in found]
