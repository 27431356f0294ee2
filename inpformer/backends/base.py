"""What a detector asks of whoever computes."""

from typing import Protocol

from torch import Tensor

from inpformer.methods.base import Groups, Model


class Backend(Protocol):
    """Gives the same maps as PyTorch, but for rounding: that of its `precision`, in bits."""

    name: str
    precision: int

    @property
    def at_a_time(self) -> int:
        """Views that it is given at a time."""
        ...

    def groups(self, pictures: Tensor) -> Groups:
        """Pictures as the encoder sees them, uint8 [B, S, S, 3], to what the method wants of them."""
        ...

    def maps(self, model: Model, groups: Groups) -> Tensor:
        """Anomaly maps [B, 256, 256] by one of the detector's models, on the CPU."""
        ...
