"""The section `evaluate` of params.yaml."""

from dataclasses import dataclass, field

from inpformer.backends.names import TORCH, check_backend
from inpformer.config import require
from inpformer.metrics.settings import BootstrapSettings


@dataclass(frozen=True)
class EvaluateSettings:
    """`gallery` is how many of the worst misses are shown; `bootstrap` makes the confidence intervals; `backend` judges
    the images.
    """

    gallery: int = 12
    bootstrap: BootstrapSettings = field(default_factory=BootstrapSettings)
    backend: str = TORCH

    def __post_init__(self) -> None:
        require(1 <= self.gallery <= 100, "gallery", self.gallery, "between 1 and 100")
        check_backend(self.backend)
