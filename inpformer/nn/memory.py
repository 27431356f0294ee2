"""A memory of normal tokens: the distance to it, and reading one back from a file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from inpformer.errors import UserError

# Distances to the memory are computed for so many tokens at a time: with a memory of 65 536 they take 256 MB.
TOKENS_AT_A_TIME = 1024


def distances(tokens: Tensor, memory: Tensor, neighbours: int = 1) -> Tensor:
    """The mean Euclidean distance of each token [B, N, C] to its nearest `neighbours` in `memory` [m, C]: [B, N]."""
    count = min(neighbours, len(memory))
    flat = tokens.flatten(0, 1)
    # An exported graph is given few tokens, and how many is not known when it is written.
    parts = [flat] if torch.compiler.is_exporting() else flat.split(TOKENS_AT_A_TIME)
    near = [_distances(part, memory).topk(count, dim=1, largest=False).values.mean(dim=1) for part in parts]
    return torch.cat(near).view(tokens.shape[:2])


def _distances(tokens: Tensor, memory: Tensor) -> Tensor:
    """[n, C] and [m, C] to [n, m], by the products that all have in common."""
    squares = tokens.square().sum(dim=1)[:, None] + memory.square().sum(dim=1) - 2 * tokens @ memory.T
    return squares.clamp(min=0).sqrt()


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
