"""Few tokens that stand for many: a uniform sample of a stream, thinned by farthest-point selection."""

from collections.abc import Iterable

import torch
from torch import Tensor

# Farthest points are selected among so many tokens at most: the time grows with these times the selected ones.
MOST_CANDIDATES = 2**16


def sample(batches: Iterable[Tensor], seed: int, most: int = MOST_CANDIDATES) -> tuple[Tensor, int]:
    """A uniform sample of up to `most` of the tokens in `batches`, each [n, C], on the CPU, and how many there were.

    One pass and constant memory: every token draws a number, the smallest are kept.
    """
    generator = torch.Generator().manual_seed(seed)
    kept, drawn, count = torch.empty(0), torch.empty(0, dtype=torch.float64), 0
    for batch in batches:
        count += len(batch)
        drawn = torch.cat([drawn, torch.rand(len(batch), generator=generator, dtype=torch.float64)])
        kept = torch.cat([kept.reshape(-1, batch.shape[1]), batch.cpu()])
        if len(kept) > most:
            drawn, order = drawn.topk(most, largest=False)
            kept = kept[order]
    return kept, count


def farthest_points(tokens: Tensor, count: int) -> Tensor:
    """Greedy k-centre selection (Gonzalez 1985): `count` of `tokens` [n, C], each the farthest from those before it;
    the first is the one nearest to the mean.
    """
    chosen = [int((tokens - tokens.mean(dim=0)).square().sum(dim=1).argmin())]
    squares = tokens.square().sum(dim=1)
    nearest = torch.full_like(squares, torch.inf)
    for _ in range(min(count, len(tokens)) - 1):
        last = tokens[chosen[-1]]
        torch.minimum(nearest, squares - 2 * (tokens @ last) + squares[chosen[-1]], out=nearest)
        chosen.append(int(nearest.argmax()))
    return tokens[chosen]
