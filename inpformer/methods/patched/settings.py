"""Settings of methods that rebuild patches, on which each method's own build."""

from dataclasses import dataclass

from inpformer.config import require
from inpformer.methods.checks import require_blocks, require_training


@dataclass(frozen=True)
class PatchedSettings:
    """`patch` cells a side of the encoder's finest level are a token. `scaled` says whether every channel is divided by
    its size in training images first, for encoders whose numbers are far from 1. A transformer of `depth` blocks of
    `width` channels and `heads` reads the tokens. A training takes `epochs`, or more where those are fewer than
    `fewest_steps` steps, at the learning rate `lr`.
    """

    patch: int = 4
    scaled: bool = False
    width: int = 768
    depth: int = 8
    heads: int = 12
    epochs: int = 300
    fewest_steps: int = 0
    lr: float = 1e-4

    def __post_init__(self) -> None:
        require(1 <= self.patch <= 100, "patch", self.patch, "between 1 and 100")
        require_blocks(self.width, self.depth, self.heads)
        require_training(self.epochs, self.fewest_steps, self.lr)


@dataclass(frozen=True)
class MaeSettings(PatchedSettings):
    """Another transformer, with sizes of its own, makes patches of what the first one made of the tokens."""

    depth: int = 12
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    epochs: int = 400

    def __post_init__(self) -> None:
        super().__post_init__()
        require_blocks(self.decoder_width, self.decoder_depth, self.decoder_heads, "decoder_")
