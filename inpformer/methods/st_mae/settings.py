"""The settings of ST-MAE: the section `train.st_mae`."""

from dataclasses import dataclass
from typing import Any

from inpformer.config import require
from inpformer.methods.patched.settings import MaeSettings

# The learning rate, and how deep the decoder is.
SPACE: dict[str, dict[str, Any]] = {
    "lr": {"low": 0.00003, "high": 0.001, "log": True},
    "decoder_depth": {"low": 1, "high": 8},
}


@dataclass(frozen=True)
class StMaeSettings(MaeSettings):
    """The transformer reads each half of the tokens alone. An image is judged by the mean over `splits` divisions into
    halves, the same for every image.
    """

    splits: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.splits <= 100, "splits", self.splits, "between 1 and 100")
