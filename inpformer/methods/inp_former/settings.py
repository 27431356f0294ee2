"""The settings of INP-Former."""

from dataclasses import dataclass

from inpformer.config import require


@dataclass(frozen=True)
class LossSettings:
    """`coherence_weight` is the paper's λ, `mining_power` its γ."""

    coherence_weight: float = 0.2
    mining_power: float = 3.0

    def __post_init__(self) -> None:
        require(self.coherence_weight >= 0, "coherence_weight", self.coherence_weight, "0 or more")
        require(0 <= self.mining_power <= 16, "mining_power", self.mining_power, "between 0 and 16")
