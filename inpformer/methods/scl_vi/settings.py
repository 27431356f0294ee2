"""The settings of SCL-VI: the section `train.scl_vi`."""

from dataclasses import dataclass
from typing import Any, Literal

from inpformer.config import require
from inpformer.methods.checks import require_training

# k, λ and the learning rate.
SPACE: dict[str, dict[str, Any]] = {
    "neighbours": {"low": 1, "high": 20},
    "svdd_weight": {"low": 0.001, "high": 10.0, "log": True},
    "lr": {"low": 0.00003, "high": 0.001, "log": True},
}

LARGE, SMALL = 64, 32  # pixels of a patch: the smaller is what the network sees, the larger four of these
NARROWEST = 24  # first layer: it and its multiples give every layer whole groups of 8 channels


@dataclass(frozen=True)
class SclViSettings:
    """The network's first layer has `width` channels, which the others follow; it makes a vector of `dimension` numbers
    of a patch. A step takes `pairs` pairs of patches, of each size and kind, of each image of the batch. `svdd_weight`
    is the paper's λ. With the `relations` "fixed", the weights of the last layer that tells how two patches lie stay as
    they were drawn, as in the authors' code; "trained" trains them.

    Patches are judged every `strides` pixels, the larger and the smaller ones, by their `neighbours` nearest (the
    paper's k) among at most `bank` patches of training images, of each size. A training takes `epochs`, or more where
    those are fewer than `fewest_steps` steps, at the learning rate `lr`.
    """

    width: int = 96
    dimension: int = 64
    pairs: int = 8
    svdd_weight: float = 1.0
    relations: Literal["fixed", "trained"] = "fixed"
    strides: tuple[int, ...] = (16, 4)
    neighbours: int = 5
    bank: int = 16384
    epochs: int = 5000
    fewest_steps: int = 0
    lr: float = 1e-4

    def __post_init__(self) -> None:
        fitting = 0 < self.width <= 960 and self.width % NARROWEST == 0
        require(fitting, "width", self.width, f"a multiple of {NARROWEST} up to 960, e.g. 96, the paper's")
        fitting = 0 < self.dimension <= 1024 and self.dimension % 8 == 0
        require(fitting, "dimension", self.dimension, "a multiple of 8 up to 1024, e.g. 64, the paper's")
        require(1 <= self.pairs <= 1000, "pairs", self.pairs, "between 1 and 1000")
        require(0 <= self.svdd_weight <= 1000, "svdd_weight", self.svdd_weight, "between 0 and 1000 (the paper's λ)")
        right = f"two numbers, of which the second divides {SMALL} and the first, e.g. [16, 4], the paper's"
        fitting = len(self.strides) == 2 and min(self.strides) >= 1
        fitting = fitting and SMALL % self.strides[1] == 0 and self.strides[0] % self.strides[1] == 0
        require(fitting, "strides", list(self.strides), right)
        require(1 <= self.neighbours <= 100, "neighbours", self.neighbours, "between 1 and 100 (the paper's k is 5)")
        require(1 <= self.bank <= 2**20, "bank", self.bank, f"between 1 and {2**20}")
        require_training(self.epochs, self.fewest_steps, self.lr)
