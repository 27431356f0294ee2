"""The settings of GLCF: the section `train.glcf`."""

from dataclasses import dataclass
from typing import Any

from inpformer.config import require
from inpformer.methods.checks import require_training

# The learning rate, and how much the global map counts beside the local one.
SPACE: dict[str, dict[str, Any]] = {
    "lr": {"low": 0.00003, "high": 0.003, "log": True},
    "global_weight": {"low": 0.1, "high": 10.0, "log": True},
}

MOST_SCALES = 3  # levels that the decoders rebuild


@dataclass(frozen=True)
class GlcfSettings:
    """The bottleneck's transformer has `depth` blocks of `width` channels and `heads`, each of its two decoders
    `depth` blocks of `decoder_heads`. `scale_weights` are those of the rebuilt levels' maps, the finest first; where
    the encoder has fewer levels, the last ones. `global_weight` is that of the global map, beside 1 of the local one.
    Where levels are `rectified`, as a ResNet's are, no number of them is below 0, and none that the decoders make. A
    training takes `epochs`, or more where those are fewer than `fewest_steps` steps; the learning rate `lr` is a tenth
    from three fifths on.
    """

    width: int = 480
    depth: int = 6
    heads: int = 12
    decoder_heads: int = 16
    scale_weights: tuple[float, ...] = (1.0, 3.0, 6.0)
    global_weight: float = 1.0
    rectified: bool = True
    epochs: int = 501
    fewest_steps: int = 0
    lr: float = 1e-4

    def __post_init__(self) -> None:
        require(1 <= self.depth <= 100, "depth", self.depth, "between 1 and 100")
        for name in ("heads", "decoder_heads"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        fitting = self.width >= 4 and all(self.width % one == 0 for one in (4, self.heads, self.decoder_heads))
        right = f"a multiple of 4, of heads ({self.heads}) and of decoder_heads ({self.decoder_heads}), e.g. 480"
        require(fitting, "width", self.width, right)
        weights = self.scale_weights
        fitting = 1 <= len(weights) <= MOST_SCALES and all(0 < one <= 100 for one in weights)
        right = f"1 to {MOST_SCALES} numbers above 0 and at most 100, e.g. [1, 3, 6]"
        require(fitting, "scale_weights", list(weights), right)
        right = "0 or more and at most 100, e.g. 1"
        require(0 <= self.global_weight <= 100, "global_weight", self.global_weight, right)
        require_training(self.epochs, self.fewest_steps, self.lr)
