"""A memory of normal tokens: the distance to it, and reading one back from a file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from inpformer.errors import UserError

# Distances are computed for so many tokens and so much of the memory at a time: 16 MB, however many there are.
TOKENS_AT_A_TIME, MEMORY_AT_A_TIME = 1024, 4096


def distances(tokens: Tensor, memory: Tensor, neighbours: int = 1) -> Tensor:
    """The mean Euclidean distance of each token [B, N, C] to its nearest `neighbours` in `memory` [m, C]: [B, N]."""
    return nearest(tokens, memory, neighbours).mean(dim=2)


def nearest(tokens: Tensor, memory: Tensor, neighbours: int) -> Tensor:
    """The Euclidean distances of each token [B, N, C] to its nearest `neighbours` in `memory` [m, C], or to all of
    fewer: [B, N, k], ascending. All of the memory is searched; that of a token to itself is 0.
    """
    centre = memory.mean(dim=0)  # distances between long tokens that differ little would drown in rounding
    flat, memory = tokens.flatten(0, 1) - centre, memory - centre
    # An exported graph is given few tokens, and how many is not known when it is written.
    parts = [flat] if torch.compiler.is_exporting() else flat.split(TOKENS_AT_A_TIME)
    found = torch.cat([_nearest(part, memory, min(neighbours, len(memory))) for part in parts])
    return found.view(*tokens.shape[:2], -1)


def _nearest(tokens: Tensor, memory: Tensor, count: int) -> Tensor:
    """Of tokens [n, C], by the products that all have in common; then once more, exactly, of those that were found."""
    near, places = [], []
    for start in range(0, len(memory), MEMORY_AT_A_TIME):
        part = memory[start : start + MEMORY_AT_A_TIME]
        squares = torch.addmm(part.square().sum(dim=1), tokens, part.T, alpha=-2)  # but for the token's own
        best = squares.topk(min(count, len(part)), dim=1, largest=False)
        near.append(best.values)
        places.append(best.indices + start)
    chosen = torch.cat(near, dim=1).topk(count, dim=1, largest=False).indices
    there = torch.cat(places, dim=1).gather(1, chosen)
    return (tokens[:, None] - memory[there]).square().sum(dim=2).sqrt().sort(dim=1).values


@contextmanager
def like_the_stored(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Gives `model.memory` the length of the memory in `tensors`, as it may be of any, for these to be loaded; if they
    are refused, it is what it was.
    """
    before: Tensor = model.memory  # type: ignore[assignment]
    stored = tensors.get("memory")
    if stored is not None and stored.ndim == 2:
        model.memory = before.new_zeros(len(stored), before.shape[1])
    try:
        yield
    except UserError:
        model.memory = before
        raise
