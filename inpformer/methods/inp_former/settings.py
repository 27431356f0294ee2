"""The settings of INP-Former: the section `train.inp_former`."""

from dataclasses import dataclass, field
from typing import Any

from inpformer.config import require

# λ, γ, M and the learning rate.
SPACE: dict[str, dict[str, Any]] = {
    "losses.coherence_weight": {"low": 0.05, "high": 1.0, "log": True},
    "losses.mining_power": {"low": 0.0, "high": 5.0},
    "num_prototypes": {"low": 2, "high": 12},
    "lr": {"low": 0.0003, "high": 0.003, "log": True},
}


@dataclass(frozen=True)
class LossSettings:
    """`coherence_weight` is the paper's λ, `mining_power` its γ."""

    coherence_weight: float = 0.2
    mining_power: float = 3.0

    def __post_init__(self) -> None:
        require(self.coherence_weight >= 0, "coherence_weight", self.coherence_weight, "0 or more")
        require(0 <= self.mining_power <= 16, "mining_power", self.mining_power, "between 0 and 16")


@dataclass(frozen=True)
class InpFormerSettings:
    """`num_prototypes` is the paper's M. `grid` (tokens a side that all levels are brought to) and `channels` (of the
    projection) are for convolutional encoders; null for ViTs, which need neither. `lr`, `final_lr` and `warmup`
    (iterations) make the schedule.
    """

    num_prototypes: int = 6
    losses: LossSettings = field(default_factory=LossSettings)
    grid: int | None = 16
    channels: int | None = 128
    epochs: int = 200
    lr: float = 1e-3
    final_lr: float = 1e-4
    warmup: int = 100

    def __post_init__(self) -> None:
        require(self.num_prototypes >= 1, "num_prototypes", self.num_prototypes, "at least 1 (the paper's is 6)")
        require(self.grid is None or self.grid >= 1, "grid", self.grid, "at least 1 token a side, or null for ViTs")
        require(self.channels is None or self.channels >= 2, "channels", self.channels, "at least 2, or null for ViTs")
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(0 < self.lr <= 1, "lr", self.lr, "above 0 and at most 1")
        require(0 <= self.final_lr <= self.lr, "final_lr", self.final_lr, f"between 0 and lr, {self.lr}")
        require(self.warmup >= 0, "warmup", self.warmup, "0 or more")
