"""In how many bits losses and distances are computed, whatever a model runs in."""

import torch
from torch import Tensor


def precise(tensor: Tensor) -> Tensor:
    """The tensor in 32 bit, in 64 if it has them."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
