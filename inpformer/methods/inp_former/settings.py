"""The settings of INP-Former: the section `train.inp_former`."""

from dataclasses import dataclass, field
from typing import Any

from inpformer.config import require
from inpformer.methods.checks import require_training

# λ, γ, M and the learning rate.
SPACE: dict[str, dict[str, Any]] = {
    "losses.coherence_weight": {"low": 0.05, "high": 1.0, "log": True},
    "losses.mining_power": {"low": 0.0, "high": 5.0},
    "num_prototypes": {"low": 2, "high": 12},
    "lr": {"low": 0.0003, "high": 0.003, "log": True},
}

MOST_TOKENS = 2**16  # of a memory, as it is chosen among so many of the training images' tokens


@dataclass(frozen=True)
class LossSettings:
    """`coherence_weight` is the paper's λ, `mining_power` its γ."""

    coherence_weight: float = 0.2
    mining_power: float = 3.0

    def __post_init__(self) -> None:
        require(self.coherence_weight >= 0, "coherence_weight", self.coherence_weight, "0 or more")
        require(0 <= self.mining_power <= 16, "mining_power", self.mining_power, "between 0 and 16")


@dataclass(frozen=True)
class MemorySettings:
    """A memory of at most so many normal `tokens`, on a `grid` (tokens a side) of its own, each the mean of `pool` ×
    `pool` (1: of itself alone). The map is the mean of how badly a place is rebuilt, of weight 1, and how far it is
    from the memory, of `weight`, each in units of its mean over the training images.
    """

    grid: int = 32
    tokens: int = 4096
    pool: int = 1
    weight: float = 0.5

    def __post_init__(self) -> None:
        require(self.grid >= 1, "grid", self.grid, "at least 1 token a side, e.g. 32")
        right = f"between 1 and {MOST_TOKENS}, e.g. 4096"
        require(1 <= self.tokens <= MOST_TOKENS, "tokens", self.tokens, right)
        right = f"odd, at least 1 and below grid, {self.grid}, e.g. 3"
        require(self.pool % 2 == 1 and 1 <= self.pool < max(2, self.grid), "pool", self.pool, right)
        require(0 < self.weight <= 100, "weight", self.weight, "above 0 and at most 100, e.g. 0.5")


@dataclass(frozen=True)
class InpFormerSettings:
    """`num_prototypes` is the paper's M. `grid` (tokens a side that all levels are brought to), `channels` (of the
    projection) and `memory` are for convolutional encoders; null for ViTs, which need none. A training takes `epochs`,
    or more where those are fewer than `fewest_steps` steps. `lr`, `final_lr` and `warmup` (iterations) make the
    schedule.
    """

    num_prototypes: int = 6
    losses: LossSettings = field(default_factory=LossSettings)
    grid: int | None = 16
    channels: int | None = 128
    memory: MemorySettings | None = None
    epochs: int = 200
    fewest_steps: int = 0
    lr: float = 1e-3
    final_lr: float = 1e-4
    warmup: int = 100

    def __post_init__(self) -> None:
        require(self.num_prototypes >= 1, "num_prototypes", self.num_prototypes, "at least 1 (the paper's is 6)")
        require(self.grid is None or self.grid >= 1, "grid", self.grid, "at least 1 token a side, or null for ViTs")
        require(self.channels is None or self.channels >= 2, "channels", self.channels, "at least 2, or null for ViTs")
        if self.memory is not None:
            require(self.grid is not None, "memory.grid", self.memory.grid, "with a grid: memory must be null for ViTs")
        require_training(self.epochs, self.fewest_steps, self.lr)
        require(0 <= self.final_lr <= self.lr, "final_lr", self.final_lr, f"between 0 and lr, {self.lr}")
        require(self.warmup >= 0, "warmup", self.warmup, "0 or more")
