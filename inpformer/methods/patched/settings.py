"""Settings of methods that rebuild patches, on which each method's own build."""

from dataclasses import dataclass

from inpformer.config import require

MOST_STEPS = 10**9


@dataclass(frozen=True)
class PatchedSettings:
    """`patch` cells a side of the encoder's finest level are a token. A transformer of `depth` blocks of `width`
    channels and `heads` reads them. A training takes `epochs`, or more where those are fewer than `fewest_steps` steps,
    at the learning rate `lr`.
    """

    patch: int = 4
    width: int = 768
    depth: int = 8
    heads: int = 12
    epochs: int = 300
    fewest_steps: int = 0
    lr: float = 1e-4

    def __post_init__(self) -> None:
        require(1 <= self.patch <= 100, "patch", self.patch, "between 1 and 100")
        require_blocks(self.width, self.depth, self.heads)
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(0 <= self.fewest_steps <= MOST_STEPS, "fewest_steps", self.fewest_steps, f"between 0 and {MOST_STEPS}")
        require(0 < self.lr <= 1, "lr", self.lr, "above 0 and at most 1")


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


def require_blocks(width: int, depth: int, heads: int, prefix: str = "") -> None:
    """Raises UserError for a transformer that cannot be built; the keys begin with `prefix`."""
    require(1 <= depth <= 100, f"{prefix}depth", depth, "between 1 and 100")
    require(1 <= heads <= 1000, f"{prefix}heads", heads, "between 1 and 1000")
    # Positions are sines and cosines of two directions.
    right = f"a multiple of 4 and of {prefix}heads ({heads}), e.g. {64 * heads}"
    require(width >= 4 and width % 4 == 0 and width % heads == 0, f"{prefix}width", width, right)
