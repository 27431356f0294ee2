"""The settings of RB-AE: the section `train.rb_ae`."""

from dataclasses import dataclass, field
from typing import Any

from inpformer.config import require
from inpformer.methods.checks import require_head, require_training

# The learning rates of both trainings, how much the perception of defects counts, and how many references there are.
SPACE: dict[str, dict[str, Any]] = {
    "lr": {"low": 0.0001, "high": 0.003, "log": True},
    "head.lr": {"low": 0.0001, "high": 0.003, "log": True},
    "perception_weight": {"low": 0.1, "high": 10.0, "log": True},
    "references": {"low": 1, "high": 16},
}


@dataclass(frozen=True)
class HeadSettings:
    """`channels` are those between its three layers. It is trained last, for `epochs`, or more where those are fewer
    than `fewest_steps` steps.
    """

    channels: tuple[int, ...] = (64, 32)
    epochs: int = 100
    fewest_steps: int = 0
    lr: float = 1e-3

    def __post_init__(self) -> None:
        require_head(self.channels)
        require_training(self.epochs, self.fewest_steps, self.lr)


@dataclass(frozen=True)
class RbAeSettings:
    """A level has `width` channels in encoder and decoder. `perception_weight` is that of the perception of defects
    beside the reconstruction. `references` good images are kept, each typical of others; an image is repaired from the
    one most like it. Encoder and decoder are trained for `epochs`, or more where those are fewer than `fewest_steps`
    steps; then the `head`.
    """

    width: int = 256
    perception_weight: float = 1.0
    references: int = 1
    epochs: int = 200
    fewest_steps: int = 0
    lr: float = 1e-3
    head: HeadSettings = field(default_factory=HeadSettings)

    def __post_init__(self) -> None:
        require(1 <= self.width <= 4096, "width", self.width, "between 1 and 4096")
        weight = self.perception_weight
        require(0 < weight <= 1000, "perception_weight", weight, "above 0 and at most 1000: the encoder learns by it")
        require(1 <= self.references <= 1000, "references", self.references, "between 1 and 1000")
        require_training(self.epochs, self.fewest_steps, self.lr)
