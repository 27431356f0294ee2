"""Good images that a model keeps, each typical of others, to hold an image against the one most like it."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from inpformer.config import require
from inpformer.nn.appearance import appearance
from inpformer.nn.coreset import medoids, sample


class KeepsReferences(nn.Module):
    """Part of a model: m references, of each its levels, `level_<number>` [m, N, C] in 16 bit, as the store has them,
    and its `looks` [m, ΣC], by which it is chosen.
    """

    looks: Tensor

    def hold_references(self, count: int, levels: Sequence[tuple[int, int]]) -> None:
        """Makes room for so many, whose `levels` have so many places and channels (N, C)."""
        self.register_buffer("looks", torch.zeros(count, sum(channels for _, channels in levels)))
        self._names = [f"level_{number}" for number in range(len(levels))]
        for name, shape in zip(self._names, levels, strict=True):
            self.register_buffer(name, torch.zeros(count, *shape, dtype=torch.float16))

    @property
    def references(self) -> list[Tensor]:
        """Their levels."""
        return [self.get_buffer(name) for name in self._names]

    def most_alike(self, groups: Sequence[Tensor]) -> Tensor:
        """The number of the reference that looks most like each image: [B]."""
        return (appearance(groups) @ self.looks.T).argmax(dim=1)

    def choose_references(self, batches: Iterable[Sequence[Tensor]]) -> None:
        """The training images that others are most like: as many groups as references, the middle of each.

        Raises UserError where there are fewer images.
        """
        found, count = sample((appearance(groups) for groups in batches), torch.initial_seed())
        wanted = len(self.looks)
        require(wanted <= count, "references", wanted, f"at most {count}, the number of training images")
        self.looks.copy_(medoids(found, wanted))

    def keep_references(self, batches: Iterable[Sequence[Tensor]]) -> None:
        """The levels of the images that were chosen, found again by their looks."""
        nearest = torch.full((len(self.looks),), -torch.inf, device=self.looks.device)
        for groups in batches:
            alike, place = (self.looks @ appearance(groups).T).max(dim=1)
            better = alike > nearest
            nearest = nearest.maximum(alike)
            for level, group in zip(self.references, groups, strict=True):
                level[better] = group[place[better]].to(level.dtype)
