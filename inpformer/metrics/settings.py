"""How confidence intervals are drawn."""

from dataclasses import dataclass

from inpformer.config import require


@dataclass(frozen=True)
class BootstrapSettings:
    """`replicates` draws of the images, the `confidence` that an interval aims at, and the `seed` of the draws."""

    replicates: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.replicates >= 100, "replicates", self.replicates, "at least 100")
        require(0.5 <= self.confidence < 1, "confidence", self.confidence, "between 0.5 and 1, e.g. 0.95")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
