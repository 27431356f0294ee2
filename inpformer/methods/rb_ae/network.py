"""RB-AE's first training: an encoder, attention to a reference, and a decoder.

Shapes: B images, m references, h × h places of a level, C channels of the frozen encoder's, W of our own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpformer.encoders.shapes import Level
from inpformer.nn.level_tokens import to_tokens
from inpformer.nn.patches import resized


@dataclass(frozen=True)
class Repaired:
    """By level, in the encoder's order: what the encoder `found` of an image, and the same `repaired` from its
    reference, [B, W, h, h], and what is `rebuilt` from that, [B, C, h, h].
    """

    found: list[Tensor]
    repaired: list[Tensor]
    rebuilt: list[Tensor]


class ReferenceAttention(nn.Module):
    """Makes each place of an image from places of a reference. Nothing of the image itself comes through but by which
    places it asks for: a defect does not get past.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(width, width, 1)
        self.key = nn.Conv2d(width, width, 1, bias=False)  # softmax would not see one
        self.value = nn.Conv2d(width, width, 1)

    def forward(self, found: Tensor, references: Tensor, which: Tensor) -> Tensor:
        """What was found of images [B, W, h, h] and of references [m, W, h, h], and which one is an image's [B]: the
        values of that one's places, weighted, [B, W, h, h].
        """
        query = to_tokens(self.query(found))
        key, value = (to_tokens(layer(references))[which] for layer in (self.key, self.value))
        mixed = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        grid: Tensor = mixed.transpose(1, 2).unflatten(2, found.shape[2:])
        return grid


class RbAeNetwork(nn.Module):
    """An encoder and attention a level; the decoder goes from the coarsest level to the finest, with the repaired
    features of each beside what it has made so far.
    """

    def __init__(self, levels: Sequence[Level], width: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(_convolutions(level.channels, width) for level in levels)
        self.attention = nn.ModuleList(ReferenceAttention(width) for _ in levels)
        last = len(levels) - 1
        self.decoder = nn.ModuleList(_convolutions(width * (1 if n == last else 2), width) for n in range(len(levels)))
        self.predict = nn.ModuleList(nn.Conv2d(width, level.channels, 1) for level in levels)

    def forward(self, grids: Sequence[Tensor], references: Sequence[Tensor], which: Tensor) -> Repaired:
        """Levels of images, [B, C, h, h] each, and of references, [m, C, h, h] each, the finest first; which reference
        is an image's, [B].
        """
        found, repaired = self.repair(grids, references, which)
        return Repaired(found, repaired, self._rebuilt(repaired))

    def repair(
        self, grids: Sequence[Tensor], references: Sequence[Tensor], which: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """`found` and `repaired` alone."""
        found = [encode(grid) for encode, grid in zip(self.encoder, grids, strict=True)]
        good = [encode(grid) for encode, grid in zip(self.encoder, references, strict=True)]
        levels = zip(self.attention, found, good, strict=True)
        return found, [attention(own, other, which) for attention, own, other in levels]

    def _rebuilt(self, repaired: Sequence[Tensor]) -> list[Tensor]:
        rebuilt: list[Tensor] = []
        above: Tensor | None = None
        for own, decode, predict in reversed(list(zip(repaired, self.decoder, self.predict, strict=True))):
            inputs = own if above is None else torch.cat([own, resized(above, own.shape[-1])], dim=1)
            above = decode(inputs)
            rebuilt.insert(0, predict(F.relu(above)))
        return rebuilt


def _convolutions(before: int, after: int) -> nn.Sequential:
    """Each place with its neighbours, then alone. What comes out has either sign, as cosines are taken of it."""
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Conv2d(after, after, 1))
