"""The settings of AMI-Net: the section `train.ami_net`."""

from dataclasses import dataclass
from typing import Any

from inpformer.config import require
from inpformer.methods.patched.settings import PatchedSettings

# The learning rate, the paper's number of clusters, and what is hidden.
SPACE: dict[str, dict[str, Any]] = {
    "lr": {"low": 0.00003, "high": 0.001, "log": True},
    "clusters": {"low": 2, "high": 16},
    "deviations": {"low": 0.0, "high": 2.0},
}


@dataclass(frozen=True)
class AmiNetSettings(PatchedSettings):
    """`clusters` stand for what an image is made of; when it is judged, a token is hidden that is farther from its
    cluster than the cluster's mean by so many standard `deviations`. In training each number of a token is disturbed by
    `jitter` times the token's length over `width`. The transformer rebuilds hidden tokens and all others.
    """

    clusters: int = 8
    deviations: float = 0.5
    jitter: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(2 <= self.clusters <= 1000, "clusters", self.clusters, "between 2 and 1000")
        require(-10 <= self.deviations <= 10, "deviations", self.deviations, "between -10 and 10 (the paper's is 0.5)")
        require(0 <= self.jitter <= 1000, "jitter", self.jitter, "between 0 and 1000")
