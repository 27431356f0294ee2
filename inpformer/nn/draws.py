"""What training draws at random for each image: from a number of its own, so that no other image has a part in it."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Draws:
    """A stream of random numbers for each image of a batch; CPUs and GPUs have different ones."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def uniform(self, *shape: int) -> Tensor:
        """[B, *shape], from 0 to below 1."""
        return torch.stack([torch.rand(shape, generator=one, device=one.device) for one in self._generators])

    def normal(self, *shape: int) -> Tensor:
        """[B, *shape], of mean 0 and deviation 1."""
        return torch.stack([torch.randn(shape, generator=one, device=one.device) for one in self._generators])

    def orders(self, length: int) -> Tensor:
        """[B, length], the numbers from 0 on, in an order of each image's own."""
        return self.uniform(length).argsort(dim=1)
