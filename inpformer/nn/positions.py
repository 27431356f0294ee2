"""Where a token is, as numbers that a transformer can read: fixed, not learnt."""

import torch
from torch import Tensor

SLOWEST = 10000.0


def sincos_positions(side: int, channels: int) -> Tensor:
    """[side², channels], row by row, as MAE has them: the first half of the channels tells the column, the second the
    row, each half as sines, then cosines. `channels` must be a multiple of 4.
    """
    quarter = channels // 4
    speed = SLOWEST ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angle = torch.arange(side, dtype=torch.float64)[:, None] * speed
    along = torch.cat([angle.sin(), angle.cos()], dim=1)
    columns, rows = along[None].expand(side, -1, -1), along[:, None].expand(-1, side, -1)
    return torch.cat([columns, rows], dim=2).flatten(0, 1).float()
