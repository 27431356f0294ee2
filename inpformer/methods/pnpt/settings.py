"""The settings of PNPT: the section `train.pnpt`."""

from dataclasses import dataclass
from typing import Any

from inpformer.config import require
from inpformer.methods.checks import require_blocks, require_training

# The learning rate, and how deep both halves are.
SPACE: dict[str, dict[str, Any]] = {
    "lr": {"low": 0.00003, "high": 0.001, "log": True},
    "depth": {"low": 1, "high": 8},
    "decoder_depth": {"low": 1, "high": 8},
}


@dataclass(frozen=True)
class PnptSettings:
    """A level's token has `width` channels. Those of all levels side by side, and as wide prompts, go through `depth`
    blocks of `heads`; `decoder_depth` more make the levels of both. A training takes `epochs`, or more where those are
    fewer than `fewest_steps` steps, at the learning rate `lr`.
    """

    width: int = 256
    depth: int = 6
    decoder_depth: int = 6
    heads: int = 8
    epochs: int = 200
    fewest_steps: int = 0
    lr: float = 1e-4

    def __post_init__(self) -> None:
        require_blocks(self.width, self.depth, self.heads)
        require(1 <= self.decoder_depth <= 100, "decoder_depth", self.decoder_depth, "between 1 and 100")
        require_training(self.epochs, self.fewest_steps, self.lr)
