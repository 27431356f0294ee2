"""The pairs of patches that SCL-VI learns from, drawn from pictures.

What is drawn of a picture follows from its seed alone, whatever batch it is in.

Shapes: n pairs, patches of K pixels, pictures of S.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

# The twelve ways in which the second of two patches of a 3 × 3 neighbourhood may lie to the first, as (rows, columns).
OFFSETS = ((0, 1), (1, 0), (0, 2), (2, 0), (1, 1), (1, -1), (1, 2), (1, -2), (2, 1), (2, -1), (2, 2), (2, -2))
CELLS = 3  # a side
Cell = tuple[int, int]  # row and column
NOISE = 0.02  # in units of a picture's full scale
SHIFT = 32  # patches that nearly coincide are at most the SHIFT-th part of their side apart


@dataclass(frozen=True)
class Pairs:
    """`puzzle` and `coinciding` are patches [n, 2, 3, K, K]; `relations` [n] numbers OFFSETS."""

    puzzle: Tensor
    relations: Tensor
    coinciding: Tensor


def fewest_pixels(size: int) -> int:
    """The smallest side of a picture that nine patches of `size` pixels fit into wherever they are drawn."""
    return 3 * size - 2


def picture_seeds(values: Tensor) -> list[int]:
    """For each picture, values [B, ...] from 0 to 255, a number that follows from them alone."""
    return [zlib.crc32(one.numpy().tobytes()) for one in values.to("cpu", torch.uint8)]


def draw_pairs(pictures: Tensor, sizes: tuple[int, ...], count: int, seeds: Sequence[int]) -> list[Pairs]:
    """Of pictures [B, 3, S, S], `count` pairs of each kind a picture and size; `seeds` [B] are the pictures'."""
    drawn: list[list[Pairs]] = [[] for _ in sizes]
    for picture, seed in zip(pictures, seeds, strict=True):
        generator = torch.Generator(pictures.device).manual_seed(seed)
        for found, size in zip(drawn, sizes, strict=True):
            found.append(_draw(picture, size, count, generator))
    return [
        Pairs(
            torch.cat([one.puzzle for one in found]),
            torch.cat([one.relations for one in found]),
            torch.cat([one.coinciding for one in found]),
        )
        for found in drawn
    ]


def _draw(picture: Tensor, size: int, count: int, generator: torch.Generator) -> Pairs:
    corners, relations = puzzle_corners(picture.shape[-1], size, count, generator)
    puzzle = _cut(picture, corners, size)
    for shape in ((count, 2, len(picture), 1, 1), puzzle.shape):  # of a channel, and of each value
        puzzle = puzzle + NOISE * torch.randn(shape, device=picture.device, generator=generator)
    together = coinciding_corners(picture.shape[-1], size, count, generator)
    return Pairs(puzzle, relations, _cut(picture, together, size))


def puzzle_corners(side: int, size: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pairs of a 3 × 3 neighbourhood whose middle is anywhere where all nine fit: their upper left corners
    [n, 2, (row, column)], and their relations [n], all twelve equally often. A neighbour is 3/4 of the side to almost
    all of it away, the middle patch itself a little beside the middle.
    """

    def whole(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, (count, *shape), device=generator.device, generator=generator)

    relations = whole(0, len(OFFSETS) - 1)
    cells = torch.tensor(_pairs_of_cells(), device=generator.device)
    chosen = cells[relations, whole(0, cells.shape[1] - 1)] - 1  # [n, 2, 2], from the middle
    margin = size - 1
    middle = whole(margin, side - size - margin, 1, 2)
    away = chosen * (size * 3 // 4 + whole(0, size // 4 - 1, 2, 2))
    beside = whole(-size // SHIFT, size // SHIFT, 2, 2) * (chosen == 0).all(dim=2, keepdim=True)
    return middle + away + beside, relations


def coinciding_corners(side: int, size: int, count: int, generator: torch.Generator) -> Tensor:
    """Pairs anywhere, the second up to a SHIFT-th of its side beside the first, not in the same place: upper left
    corners [n, 2, (row, column)].
    """
    most = size // SHIFT
    width = 2 * most + 1
    drawn = torch.randint(0, width**2 - 1, (count,), device=generator.device, generator=generator)
    drawn = drawn + (drawn >= width**2 // 2)  # the one in the middle is no shift
    shift = torch.stack([drawn // width, drawn % width], dim=1) - most
    first = torch.rand((count, 2), device=generator.device, generator=generator)
    low = (-shift).clamp(min=0)
    high = side - size - shift.clamp(min=0)
    first = low + (first * (high - low + 1)).long().minimum(high - low)
    return torch.stack([first, first + shift], dim=1)


@cache
def _pairs_of_cells() -> list[list[tuple[Cell, Cell]]]:
    """For each relation twelve pairs of cells that lie so. There are one to six, which divide twelve: each of them is
    there equally often.
    """
    cells = [(row, column) for row in range(CELLS) for column in range(CELLS)]
    table = []
    for down, right in OFFSETS:
        found = [(a, b) for a in cells for b in cells if (b[0] - a[0], b[1] - a[1]) == (down, right)]
        table.append(found * (len(OFFSETS) // len(found)))
    return table


def _cut(picture: Tensor, corners: Tensor, size: int) -> Tensor:
    """The patches of a picture [3, S, S] at corners [n, 2, (row, column)]: [n, 2, 3, K, K]."""
    along = torch.arange(size, device=picture.device)
    rows, columns = (corners[..., None] + along).unbind(dim=2)
    return picture[:, rows[..., None], columns[..., None, :]].permute(1, 2, 0, 3, 4)
