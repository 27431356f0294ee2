"""The settings of DADF: the section `train.dadf`."""

from dataclasses import dataclass, field
from typing import Any

from inpformer.config import require
from inpformer.methods.checks import require_blocks, require_training

# The learning rates of both trainings, and the steps of a flow.
SPACE: dict[str, dict[str, Any]] = {
    "lr": {"low": 0.00003, "high": 0.001, "log": True},
    "flow.lr": {"low": 0.0003, "high": 0.003, "log": True},
    "flow.depth": {"low": 4, "high": 12},
}


@dataclass(frozen=True)
class FlowSettings:
    """A flow has `depth` coupling steps. They are trained after the reconstruction, for `epochs`, or more where those
    are fewer than `fewest_steps` steps.
    """

    depth: int = 8
    epochs: int = 15
    fewest_steps: int = 0
    lr: float = 1e-3

    def __post_init__(self) -> None:
        require(1 <= self.depth <= 100, "depth", self.depth, "between 1 and 100")
        require_training(self.epochs, self.fewest_steps, self.lr)


@dataclass(frozen=True)
class DadfSettings:
    """A level's token has `width` channels, those of all levels side by side go through `depth` blocks of `heads`. The
    reconstruction is trained for `epochs`, or more where those are fewer than `fewest_steps` steps; then the `flow`.
    """

    width: int = 480
    depth: int = 8
    heads: int = 8
    epochs: int = 200
    fewest_steps: int = 0
    lr: float = 1e-4
    flow: FlowSettings = field(default_factory=FlowSettings)

    def __post_init__(self) -> None:
        require_blocks(self.width, self.depth, self.heads)
        require_training(self.epochs, self.fewest_steps, self.lr)
