"""The section `promote` of params.yaml: what a challenger must show before it may serve."""

from dataclasses import dataclass, field, fields
from typing import Literal

from inpformer.config import require


@dataclass(frozen=True)
class Margins:
    """By how much the mean over the categories of each measure may be lower than the champion's, at most: image AUROC,
    P-AP, AUPRO, recall (defective parts that do not PASS) and specificity (good parts that do not FAIL).
    """

    image_auroc: float = 0.05
    pixel_ap: float = 0.05
    aupro: float = 0.05
    recall: float = 0.05
    specificity: float = 0.05

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            require(0 < value < 1, one.name, value, "between 0 and 1, e.g. 0.05")


@dataclass(frozen=True)
class PromoteSettings:
    """A challenger that is worse than the champion by one of `margins`, or in one category by `category_margin`, is
    promoted with a probability of 1 - `confidence` at most. `replicates` and `seed` are of the bootstrap draws.
    `latency_ms` bounds the 99th percentile of one image's time on this machine, `memory_mb` the peak of a process that
    judges; null bounds nothing.

    `approval`: a second person must approve what passed. `drift`: aliases that somebody moved past the record are
    accepted as they are, or put back; both are recorded.
    """

    confidence: float = 0.95
    margins: Margins = field(default_factory=Margins)
    category_margin: float = 0.15
    replicates: int = 2000
    seed: int = 0
    latency_ms: float | None = None
    memory_mb: float | None = None
    approval: bool = False
    drift: Literal["accept", "revert"] = "accept"

    def __post_init__(self) -> None:
        require(0.5 <= self.confidence <= 0.995, "confidence", self.confidence, "between 0.5 and 0.995, e.g. 0.95")
        require(0 < self.category_margin < 1, "category_margin", self.category_margin, "between 0 and 1, e.g. 0.15")
        # The smallest level, 1 - confidence over the measures, must have some draws beyond it; each takes .1 MB.
        fewest = max(500, round(50 / (1 - self.confidence)))
        require(fewest <= self.replicates <= 10_000, "replicates", self.replicates, f"between {fewest} and 10000")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        for name in ("latency_ms", "memory_mb"):
            value = getattr(self, name)
            require(value is None or value > 0, name, value, "above 0, or null for no budget")
