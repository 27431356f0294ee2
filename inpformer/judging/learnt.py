"""What a detector learnt from, and so how it may be asked."""

from dataclasses import dataclass

from inpformer.config import require
from inpformer.methods.modes import KNOWN

# The category of a model that serves all of them.
ALL = ""


@dataclass(frozen=True)
class LearntFrom:
    """`setting` is a name of `inpformer.methods.modes`; `data_digest` the manifest's; `categories` those that it has
    seen.
    """

    setting: str
    data_digest: str
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        right = "multi-class, single-class, super-multi-class, zero-shot or few-shot-K-multi-class"
        require(KNOWN.fullmatch(self.setting) is not None, "setting", self.setting, right)
