"""The settings of TFA-Net: the section `train.tfa_net`."""

from dataclasses import dataclass
from typing import Any

from inpformer.config import require
from inpformer.methods.patched.settings import MaeSettings

# The learning rate, how many references there are, and how deep the decoder is.
SPACE: dict[str, dict[str, Any]] = {
    "lr": {"low": 0.00003, "high": 0.001, "log": True},
    "references": {"low": 1, "high": 16},
    "decoder_depth": {"low": 1, "high": 8},
}


@dataclass(frozen=True)
class TfaNetSettings(MaeSettings):
    """`references` good images are kept, each typical of others; an image's reference is the one most like it."""

    references: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.references <= 1000, "references", self.references, "between 1 and 1000")
