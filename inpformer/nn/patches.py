"""Square patches of features: levels side by side on one grid, cut into patches, and how far two of these are apart.

Shapes: B images, S cells a side, p of them a side of a patch, N = (S/p)² patches, C channels. A patch's vector is in
the order (row, column, channel), the patches row by row.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from inpformer.config import require
from inpformer.nn.precision import precise


def require_patch(patch: int, side: int) -> None:
    """Raises UserError where patches of `patch` cells a side do not fill a grid of `side`."""
    right = f"a divisor of {side}, the cells a side of the encoder's finest level: change it or features.encoder.crop"
    require(side % patch == 0, "patch", patch, right)


def on_one_grid(levels: Sequence[Tensor], side: int) -> Tensor:
    """Levels, each [B, n², C] on a grid of its own, brought to one and put side by side: [B, ΣC, side, side]."""
    grids = [level.transpose(1, 2).unflatten(2, (round(level.shape[1] ** 0.5), -1)) for level in levels]
    return torch.cat([resized(grid, side) for grid in grids], dim=1)


def resized(grid: Tensor, side: int) -> Tensor:
    """[B, C, n, n] to [B, C, side, side]: bilinear, the corners stay in place."""
    if grid.shape[-1] == side:
        return grid
    return F.interpolate(grid, (side, side), mode="bilinear", align_corners=True)


def patchify(grid: Tensor, patch: int) -> Tensor:
    """[B, C, S, S] to vectors [B, N, p²·C]."""
    cut: Tensor = grid.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # [B, C, S/p, p, S/p, p]
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def cells(vectors: Tensor, patch: int) -> Tensor:
    """[B, N, p²·C] to the cells [B, S, S, C]."""
    side = round(vectors.shape[1] ** 0.5)
    cut: Tensor = vectors.unflatten(2, (patch, patch, -1)).unflatten(1, (side, side))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def patch_errors(target: Tensor, rebuilt: Tensor) -> tuple[Tensor, Tensor]:
    """Of vectors [B, N, D]: the mean over patches of 1 - the cosine, and the mean squared difference; scalars."""
    one, other = precise(target), precise(rebuilt)
    return (1 - F.cosine_similarity(one, other, dim=-1)).mean(), F.mse_loss(other, one)
