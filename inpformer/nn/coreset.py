"""Few tokens that stand for many: a uniform sample of a stream, thinned to farthest points, or to typical ones."""

from collections.abc import Iterable

import torch
from torch import Tensor

# Farthest points are selected among so many tokens at most: the time grows with these times the selected ones.
MOST_CANDIDATES = 2**16
# Of the farthest so many the next ones are chosen, and distances to so many chosen ones are computed together.
FEW, CHOSEN_AT_A_TIME = 1024, 128
MEDOID_ROUNDS = 10


class Sample:
    """A uniform sample of up to `most` of the tokens that are added, on the CPU: `kept` [m, C], of `count` that there
    were.

    One pass and constant memory: every token draws a number, the smallest are kept.
    """

    def __init__(self, seed: int, most: int = MOST_CANDIDATES) -> None:
        self._generator, self._most = torch.Generator().manual_seed(seed), most
        self._drawn = torch.empty(0, dtype=torch.float64)
        self.kept, self.count = torch.empty(0), 0

    def add(self, batch: Tensor) -> None:
        """Tokens [n, C]."""
        self.count += len(batch)
        numbers = torch.rand(len(batch), generator=self._generator, dtype=torch.float64)
        if len(self.kept) == self._most:  # and sorted: what drew more than the last is not copied
            few = numbers < self._drawn[-1]
            batch, numbers = batch[few.to(batch.device)], numbers[few]
        self._drawn = torch.cat([self._drawn, numbers])
        self.kept = torch.cat([self.kept.reshape(-1, batch.shape[1]), batch.cpu()])
        if len(self.kept) >= self._most:
            self._drawn, order = self._drawn.topk(self._most, largest=False)
            self.kept = self.kept[order]


def sample(batches: Iterable[Tensor], seed: int, most: int = MOST_CANDIDATES) -> tuple[Tensor, int]:
    """A `Sample` of the tokens in `batches`, each [n, C], and how many there were."""
    found = Sample(seed, most)
    for batch in batches:
        found.add(batch)
    return found.kept, found.count


def farthest_points(tokens: Tensor, count: int) -> Tensor:
    """Greedy k-centre selection (Gonzalez 1985): `count` of `tokens` [n, C], each the farthest from those before it;
    the first is the one nearest to the mean. Where `count` is not below n, all of them, as they are.

    Whoever is next is among the farthest few as long as none outside these can be farther, and distances only shrink:
    so several are chosen between two passes over all tokens.
    """
    return tokens if count >= len(tokens) else tokens[_farthest(tokens, count)]


def medoids(tokens: Tensor, count: int) -> Tensor:
    """`count` of `tokens` [n, C], n at least, each in the middle of those that are nearest to it: k-means from farthest
    points on, whose means are tokens.
    """
    chosen = _farthest(tokens, count)
    for _ in range(MEDOID_ROUNDS):
        nearest = torch.cdist(tokens, tokens[chosen]).argmin(dim=1)
        for number in nearest.unique().tolist():
            members = (nearest == number).nonzero()[:, 0]
            own = tokens[members]
            chosen[number] = members[(own - own.mean(dim=0)).square().sum(dim=1).argmin()]
    return tokens[chosen]


def _farthest(tokens: Tensor, count: int) -> Tensor:
    """The numbers of farthest points, [count], at most n."""
    # Distances between long tokens that differ little would drown in rounding.
    centred = tokens - tokens.mean(dim=0)
    squares = centred.square().sum(dim=1)
    chosen = squares.argmin()[None]
    nearest = torch.full_like(squares, torch.inf)
    _draw_near(nearest, centred, squares, chosen)
    while len(chosen) < count:
        distances, few = nearest.topk(min(FEW, len(tokens)))
        limit = -torch.inf if len(few) == len(tokens) else float(distances[-1])
        between = torch.addmm(squares[few], centred[few], centred[few].T, alpha=-2) + squares[few, None]
        new = few[_among(distances.cpu(), between.cpu(), limit, count - len(chosen))]
        _draw_near(nearest, centred, squares, new)
        chosen = torch.cat([chosen, new])
    return chosen


def _draw_near(nearest: Tensor, centred: Tensor, squares: Tensor, new: Tensor) -> None:
    """Adds `new` to what is chosen. `nearest` [n] holds squared distances to that, for itself less than any."""
    for part in new.split(CHOSEN_AT_A_TIME):
        products = torch.addmm(squares[part], centred, centred[part].T, alpha=-2)
        torch.minimum(nearest, products.amin(dim=1) + squares, out=nearest)
    nearest[new] = -torch.inf


def _among(distances: Tensor, between: Tensor, limit: float, most: int) -> list[int]:
    """The numbers of up to `most` tokens, each the farthest, while `distances` [k] to what is chosen, which shrink by
    `between` [k, k], do not fall below `limit`.
    """
    chosen: list[int] = []
    while len(chosen) < most:
        farthest = int(distances.argmax())
        if chosen and distances[farthest] < limit:
            break
        chosen.append(farthest)
        distances = distances.minimum(between[farthest])
        distances[farthest] = -torch.inf
    return chosen
