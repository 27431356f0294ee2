"""DADF's second stage: a normalising flow a level (FastFlow with the coupling of FrEIA's AllInOneBlock).

Shapes: B images, C channels on a grid of h × h. All that exponents and logarithms are taken of is in 32 bit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpformer.encoders.shapes import Level
from inpformer.nn.precision import precise

CLAMP = 2.0  # of the logarithm of a coupling's scale
SLOPE = 0.1
# A channel's own scale is .1·softplus of this with β = ½; it begins with 1.
BETA, TENTH = 0.5, 0.1
FIRST_SCALE = 2 * math.log(math.exp(5) - 1)


@dataclass(frozen=True)
class Latents:
    """By level, the finest first: what should be standard normal, [B, C, h, h], and the logarithm of the determinant of
    the way there, [B].
    """

    values: list[Tensor]
    log_determinants: list[Tensor]


class Coupling(nn.Module):
    """The first half of the channels says how the others are scaled and shifted; then each channel has its own scale
    and shift, and all are shuffled, always in the same way.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.kept = channels - channels // 2
        self.subnet = nn.Sequential(
            nn.Conv2d(self.kept, self.kept, kernel, padding="same", groups=self.kept),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(self.kept, 2 * (channels // 2), 1),
        )
        self.scale = nn.Parameter(torch.full((channels,), FIRST_SCALE))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("permutation", torch.randperm(channels))
        self.permutation: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, h, h] to the same and the logarithm of the determinant, [B]."""
        kept, other = x[:, : self.kept], x[:, self.kept :]
        scale, shift = (TENTH * precise(self.subnet(kept))).chunk(2, dim=1)
        log_scale = CLAMP * scale.tanh()
        own = TENTH * F.softplus(precise(self.scale), beta=BETA)
        coupled = torch.cat([kept, other * log_scale.exp() + shift], dim=1)
        scaled = coupled * own[:, None, None] + precise(self.shift)[:, None, None]
        places = x.shape[2] * x.shape[3]
        return scaled[:, self.permutation], log_scale.sum(dim=(1, 2, 3)) + places * own.log().sum()


class Flow(nn.Module):
    """A level's coupling steps, which look at a place and its neighbours and at the place alone in turn."""

    def __init__(self, level: Level, depth: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm((level.channels, level.side, level.side))
        self.steps = nn.ModuleList(Coupling(level.channels, 1 if number % 2 else 3) for number in range(depth))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, h, h] to the latent and the logarithm of the determinant."""
        x, log_determinants = self.norm(precise(x)), []
        for step in self.steps:
            x, log_determinant = step(x)
            log_determinants.append(log_determinant)
        return x, torch.stack(log_determinants).sum(dim=0)


class Flows(nn.Module):
    """A flow a level, of the level itself and of what both streams made of it, side by side."""

    def __init__(self, levels: Sequence[Level], depth: int) -> None:
        """`levels` are the encoder's."""
        super().__init__()
        self.levels = nn.ModuleList(Flow(Level(level.side, 3 * level.channels), depth) for level in levels)

    def forward(self, *grids: Tensor) -> Latents:
        """Each [B, 3·C, h, h]."""
        found = [flow(grid) for flow, grid in zip(self.levels, grids, strict=True)]
        values, log_determinants = zip(*found, strict=True)
        return Latents(list(values), list(log_determinants))
