"""The settings of AMI-Net: the section `train.ami_net`."""

from dataclasses import dataclass
from typing import Any

from inpformer.config import require
from inpformer.methods.checks import require_blocks, require_training

# The learning rate, the paper's number of clusters, and what is hidden.
SPACE: dict[str, dict[str, Any]] = {
    "lr": {"low": 0.00003, "high": 0.001, "log": True},
    "clusters": {"low": 2, "high": 16},
    "deviations": {"low": 0.0, "high": 2.0},
}


@dataclass(frozen=True)
class AmiNetSettings:
    """`patch` cells a side of the encoder's finest level are a token. Tokens are rebuilt by `depth` blocks of `width`
    channels and `heads`. `clusters` stand for what an image is made of; when it is judged, a token is hidden that is
    farther from its cluster than the cluster's mean by so many standard `deviations`. In training each number of a
    token is disturbed by `jitter` times the token's length over `width`. A training takes `epochs`, or more where those
    are fewer than `fewest_steps` steps, at the learning rate `lr`.
    """

    patch: int = 4
    width: int = 768
    depth: int = 8
    heads: int = 12
    clusters: int = 8
    deviations: float = 0.5
    jitter: float = 20.0
    epochs: int = 300
    fewest_steps: int = 0
    lr: float = 1e-4

    def __post_init__(self) -> None:
        require(1 <= self.patch <= 100, "patch", self.patch, "between 1 and 100")
        require_blocks(self.width, self.depth, self.heads)
        require(2 <= self.clusters <= 1000, "clusters", self.clusters, "between 2 and 1000")
        require(-10 <= self.deviations <= 10, "deviations", self.deviations, "between -10 and 10 (the paper's is 0.5)")
        require(0 <= self.jitter <= 1000, "jitter", self.jitter, "between 0 and 1000")
        require_training(self.epochs, self.fewest_steps, self.lr)
