"""A line of the comparison: how far a group of tensors is from the reference's."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# What is allowed of outputs, and of what follows from gradients.
EVALUATION, TRAINING = 1e-5, 1e-4


@dataclass(frozen=True)
class Row:
    """One group of tensors: its largest error over its largest value, and what is allowed; `note` says what of it is
    not the reference's, on purpose.
    """

    name: str
    error: float
    allowed: float
    note: str = ""

    @property
    def held(self) -> bool:
        """Whether it is within what is allowed; a NaN is not."""
        return self.error <= self.allowed


def row(name: str, ours: Mapping[str, Tensor], golden: Mapping[str, Tensor], allowed: float, note: str = "") -> Row:
    """Raises KeyError for a tensor that is on one side alone, and ValueError for one of another shape."""
    if ours.keys() != golden.keys():
        raise KeyError(f"{name}: only on one side: {sorted(ours.keys() ^ golden.keys())}")
    for key, tensor in golden.items():
        if ours[key].shape != tensor.shape:
            raise ValueError(f"{name}: {key} is {tuple(tensor.shape)}, ours {tuple(ours[key].shape)}")
    # Tensors' own maximum, unlike Python's, lets a NaN through to the comparison.
    error = float(torch.stack([(ours[k] - golden[k]).abs().max().double() for k in golden]).max())
    largest = float(torch.stack([golden[k].abs().max().double() for k in golden]).max())
    return Row(name, error / max(largest, 1e-30), allowed, note)
