"""What several methods' settings must be, in one sentence each."""

from collections.abc import Sequence

from inpformer.config import require

MOST_STEPS = 10**9


def require_blocks(width: int, depth: int, heads: int, prefix: str = "") -> None:
    """Of a transformer whose positions are sines and cosines; the keys are called so, behind `prefix`. Raises UserError
    for values that cannot be built.
    """
    require(1 <= depth <= 100, f"{prefix}depth", depth, "between 1 and 100")
    require(heads >= 1, f"{prefix}heads", heads, "at least 1")
    right = f"a multiple of 4 and of {prefix}heads ({heads}), e.g. {64 * heads}"
    require(width >= 4 and width % 4 == 0 and width % heads == 0, f"{prefix}width", width, right)


def require_head(channels: Sequence[int]) -> None:
    """Of a `SegmentationHead`. Raises UserError for channels that it cannot be built with."""
    fitting = len(channels) == 2 and min(channels) >= 1
    require(fitting, "channels", list(channels), "two numbers of channels, e.g. [64, 32]")


def require_training(epochs: int, fewest_steps: int, lr: float) -> None:
    """Raises UserError for a training that has no step or no sensible rate."""
    require(epochs >= 1, "epochs", epochs, "at least 1")
    require(0 <= fewest_steps <= MOST_STEPS, "fewest_steps", fewest_steps, f"between 0 and {MOST_STEPS}")
    require(0 < lr <= 1, "lr", lr, "above 0 and at most 1")
