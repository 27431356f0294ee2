"""SCL-VI's trained part: what makes a vector of a patch, and what tells how two patches lie to each other.

Shapes: n patches, D numbers of a vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpformer.methods.scl_vi.settings import NARROWEST, SMALL

RELATIONS = 12  # how two patches of a 3 × 3 neighbourhood may lie
HIDDEN = 128  # channels of the layers above the patch's network
SLOPE = 0.1
GROUP = 8  # channels that are normalised together
QUADRANTS = 2  # a side


@dataclass(frozen=True)
class Judged:
    """Of one size of patches: `logits` [n, RELATIONS] of how the two of a pair lie, and the `distances` [m] of pairs
    that nearly coincide.
    """

    logits: Tensor
    distances: Tensor


class PatchEncoder(nn.Module):
    """A patch of 32 pixels to its vector."""

    def __init__(self, width: int, dimension: int) -> None:
        super().__init__()
        first, second, third, last = (width * share // NARROWEST for share in (24, 64, 96, 32))
        self.layers = nn.Sequential(
            *_normalised(3, first, 5),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
            _local_response(),
            *_normalised(first, second, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            _local_response(),
            *_normalised(second, third, 3, padding=1),
            nn.ReLU(),
            *_normalised(third, third, 3, padding=1),
            nn.ReLU(),
            *_normalised(third, second, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
            *_normalised(second, last, 2),
            *_normalised(last, dimension, 2),
            nn.Tanh(),
        )

    def forward(self, patches: Tensor) -> Tensor:
        """[n, 3, 32, 32] to [n, D]."""
        found: Tensor = self.layers(patches)
        return found.flatten(1)


class Joined(nn.Module):
    """The vectors of a patch's four quadrants to its own."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dimension, HIDDEN, QUADRANTS)
        self.conv2 = nn.Conv2d(HIDDEN, dimension, 1)

    def forward(self, quadrants: Tensor) -> Tensor:
        """[n, 2, 2, D], row by row, to [n, D]."""
        hidden = F.leaky_relu(self.conv1(quadrants.permute(0, 3, 1, 2)), SLOPE)
        found: Tensor = self.conv2(hidden).tanh()
        return found.flatten(1)


class RelationClassifier(nn.Module):
    """The vectors of two patches to how they lie. Each column of the last layer's weights has the length 1."""

    def __init__(self, dimension: int, trained: bool) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dimension, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.fc3 = nn.Linear(HIDDEN, RELATIONS)
        self.fc3.weight.requires_grad_(trained)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """[n, D] each, to [n, RELATIONS]."""
        hidden = F.leaky_relu(self.fc1(first - second), SLOPE)
        hidden = F.leaky_relu(self.fc2(hidden), SLOPE)
        return F.linear(hidden, F.normalize(self.fc3.weight, dim=0), self.fc3.bias)


class SclViNetwork(nn.Module):
    """Everything that is trained: the network of small patches, which also sees the quadrants of large ones, and what
    each size has besides.
    """

    def __init__(self, width: int, dimension: int, trained_relations: bool) -> None:
        super().__init__()
        self.small = PatchEncoder(width, dimension)
        self.joined = Joined(dimension)
        self.relation_small = RelationClassifier(dimension, trained_relations)
        self.relation_large = RelationClassifier(dimension, trained_relations)

    def forward(self, large: Sequence[Tensor], small: Sequence[Tensor]) -> tuple[Judged, Judged]:
        """Of each size two sets of pairs, [n, 2, 3, K, K]: those of a puzzle, and those that nearly coincide."""
        return (
            _judged(self.embed_large(_flat(large)), large, self.relation_large),
            _judged(self.small(_flat(small)), small, self.relation_small),
        )

    def embed_large(self, patches: Tensor) -> Tensor:
        """[n, 3, 64, 64] to [n, D]."""
        rows = patches.unfold(2, SMALL, SMALL).unfold(3, SMALL, SMALL)  # [n, 3, 2, 2, 32, 32]
        vectors: Tensor = self.small(rows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2))
        found: Tensor = self.joined(vectors.view(len(patches), QUADRANTS, QUADRANTS, -1))
        return found


def _flat(kinds: Sequence[Tensor]) -> Tensor:
    return torch.cat([pairs.flatten(0, 1) for pairs in kinds])


def _judged(vectors: Tensor, kinds: Sequence[Tensor], classifier: RelationClassifier) -> Judged:
    puzzle, coinciding = vectors.unflatten(0, (-1, 2)).split([len(pairs) for pairs in kinds])
    apart = coinciding[:, 0].float() - coinciding[:, 1].float()
    return Judged(classifier(puzzle[:, 0], puzzle[:, 1]), torch.linalg.vector_norm(apart, dim=1))


def _normalised(before: int, after: int, size: int, padding: int = 0) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(before, after, size, padding=padding), nn.GroupNorm(after // GROUP, after)


def _local_response() -> nn.Module:
    return nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)
