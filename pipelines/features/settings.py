"""The section `features` of params.yaml."""

from dataclasses import dataclass, field
from typing import Literal

from inpformer.config import require
from inpformer.encoders.settings import EncoderSettings
from inpformer.features import SHARD_IMAGES
from inpformer.images.tiling import Tiling

PROCEDURAL, IMAGES = "procedural", "images"


@dataclass(frozen=True)
class AnomalySettings:
    """What a method that learns from defects is shown: `variants` of each good training image (of each view of it),
    filled from `textures`: "procedural" ones, the training "images" themselves, or those in a folder.
    """

    variants: int = 2
    textures: str = PROCEDURAL
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.variants >= 1, "variants", self.variants, "at least 1")
        require(bool(self.textures), "textures", self.textures, f"{PROCEDURAL}, {IMAGES} or a folder of pictures")
        require(self.seed >= 0, "seed", self.seed, "0 or more")


@dataclass(frozen=True)
class FeatureSettings:
    """`keep` is what is stored: "all" levels of the encoder, which all methods on it share, or what train.method
    "wanted" alone. `tiling` cuts images into tiles, null takes each whole. `store` is the address of the feature store,
    a folder or s3://bucket/prefix, which runs, branches and colleagues may share; of one in S3, each machine keeps up
    to `cache_gigabytes` on its own disk. `batch_size` views go through the encoder at a time.
    """

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    tiling: Tiling | None = None
    anomalies: AnomalySettings = field(default_factory=AnomalySettings)
    keep: Literal["all", "wanted"] = "all"
    store: str = ".features"
    cache_gigabytes: float = 20
    batch_size: int = 16

    def __post_init__(self) -> None:
        require(1 <= self.batch_size <= SHARD_IMAGES, "batch_size", self.batch_size, f"between 1 and {SHARD_IMAGES}")
        require(
            self.tiling is None or self.encoder.crop == self.encoder.resize,
            "encoder.crop",
            self.encoder.crop,
            f"equal to resize, {self.encoder.resize}, with tiling: else every tile's margin would go uninspected",
        )
        right = "a folder or s3://bucket/prefix"
        require("://" not in self.store or self.store.startswith("s3://"), "store", self.store, right)
        require(self.cache_gigabytes >= 0, "cache_gigabytes", self.cache_gigabytes, "0 or more")
