"""What of an image's features their neighbourhood and the image's texture do not explain (GRNR, arXiv 2406.07333).

A feature q, its eight neighbours S and the n features μ that stand for the texture (the global support) give
W = (q Sᵀ + λ Σμ Sᵀ) (S Sᵀ (1 + λn))⁻¹ and the score |q - W S|: W S is the projection of (q + λ Σμ) / (1 + λn) on what S
spans. It needs inner products alone, in 64 bit: neighbours are nearly alike, and 32 bit leave noise.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Distances between features are computed for so many at a time: of a grid of 80 a side they take 26 MB.
AT_A_TIME = 1024
# Added to the diagonal of S Sᵀ, as a share of its trace: neighbours may be equal, as where a picture is black.
RIDGE = 1e-6
SMALLEST = 1e-30  # of that, where all features are 0
WINDOW = 3


def pooled(tokens: Tensor) -> Tensor:
    """The mean of each feature's 3 × 3 neighbourhood, [N, C] on a square grid; beyond the grid lies nothing, 0."""
    grid = tokens.T.unflatten(1, (side_of(tokens), -1))
    return F.avg_pool2d(grid[None], WINDOW, 1, WINDOW // 2)[0].flatten(1).T.contiguous()


def common(tokens: Tensor, count: int) -> Tensor:
    """Which `count` of the features [N, C] have the smallest mean distance to the others: their numbers, ascending."""
    centred = tokens - tokens.mean(dim=0)  # rounding grows with the length of what is subtracted
    total = torch.cat([torch.cdist(part, centred).sum(dim=1) for part in centred.split(AT_A_TIME)])
    return total.topk(count, largest=False).indices.sort().values


def unexplained(
    own: Tensor, cross: Tensor, gram: Tensor, pull: Tensor, neighbours: int, weight: float, ridge: float = RIDGE
) -> Tensor:
    """The score of each feature, [N], from inner products, float64: `own` q qᵀ [N], `cross` q Sᵀ [N, 8], `gram` S Sᵀ
    [N, 8, 8], `pull` Σμ Sᵀ [N, 8].
    """
    raised = (ridge * gram.diagonal(dim1=1, dim2=2).sum(dim=1)).clamp(min=SMALLEST)
    wanted = (cross + weight * pull) / (1 + weight * neighbours)
    # Unchecked: a NaN is to come out as one, which is refused as a score, not to end in an error here.
    factor = torch.linalg.cholesky_ex(gram + torch.diag_embed(raised[:, None].expand_as(cross))).L
    share = torch.cholesky_solve(wanted[..., None], factor)
    squared = own - 2 * (share[..., 0] * cross).sum(dim=1) + (share.mT @ gram @ share)[:, 0, 0]
    return squared.clamp(min=0).sqrt()


def scores(tokens: Tensor, neighbours: int, weight: float) -> Tensor:
    """The score of each pooled feature [N, C] of an image, [N] float32. The eight neighbours are the others of the
    3 × 3 window around it, or, at the edge of the grid, of the window that still lies within.
    """
    windows, slots = (index.to(tokens.device) for index in _windows(side_of(tokens)))
    texture = tokens[common(tokens, neighbours)].double().sum(dim=0)
    products = _window_products(tokens.double())[windows]
    towards = _of_windows(tokens.double() @ texture)[windows]
    # The feature itself first, then its neighbours.
    ordered = products.take_along_dim(slots[:, :, None], dim=1).take_along_dim(slots[:, None, :], dim=2)
    pull = towards.take_along_dim(slots, dim=1)[:, 1:]
    found = unexplained(ordered[:, 0, 0], ordered[:, 0, 1:], ordered[:, 1:, 1:], pull, neighbours, weight)
    return found.float()


def side_of(tokens: Tensor) -> int:
    """Of the square grid of the features [N, C]."""
    side: int = round(len(tokens) ** 0.5)
    return side


@cache
def _windows(side: int) -> tuple[Tensor, Tensor]:
    """Of each position the number of its window [N], row by row of their upper left corners, and the places in that
    of itself and of the eight others [N, 9].
    """
    at = torch.arange(side)
    corner = (at - 1).clamp(0, side - WINDOW)
    window = (corner[:, None] * (side - WINDOW + 1) + corner).flatten()
    place = ((at - corner)[:, None] * WINDOW + (at - corner)).flatten()
    every = torch.arange(WINDOW**2).expand(len(place), -1)
    return window, torch.cat([place[:, None], every[every != place[:, None]].view(len(place), -1)], dim=1)


def _of_windows(values: Tensor) -> Tensor:
    """The nine values of each window within the grid, [N] to [M, 9]."""
    grid = values.view(1, 1, side_of(values), -1)
    return F.unfold(grid, WINDOW)[0].T


def _window_products(tokens: Tensor) -> Tensor:
    """The inner products of the nine features of each window within the grid: [N, C] to [M, 9, 9]. Those of whole rows
    are computed once, not the same pair in each window that holds it.
    """
    grid = tokens.unflatten(0, (side_of(tokens), -1))
    count = len(grid) - WINDOW + 1
    products = tokens.new_empty(count, count, WINDOW, WINDOW, WINDOW, WINDOW)  # row, column, then of each of the two
    for down in range(WINDOW):
        rows = grid[: len(grid) - down] @ grid[down:].mT
        for upper in range(WINDOW - down):
            for left in range(WINDOW):
                for right in range(WINDOW):
                    pairs = rows[upper : upper + count, left:, right:].diagonal(dim1=1, dim2=2)[:, :count]
                    products[:, :, upper, left, upper + down, right] = pairs
                    products[:, :, upper + down, right, upper, left] = pairs
    return products.view(count**2, WINDOW**2, WINDOW**2)
