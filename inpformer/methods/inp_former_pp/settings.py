"""The settings of INP-Former++: the section `train.inp_former_pp`."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from inpformer.config import require
from inpformer.methods.checks import require_head
from inpformer.methods.inp_former.settings import InpFormerSettings, LossSettings

JOINTLY, AFTERWARDS, ALONE = "jointly", "afterwards", "alone"
# λ, γ, β, the weight of the second branch, M and the learning rate.
SPACE: dict[str, dict[str, Any]] = {
    "losses.coherence_weight": {"low": 0.05, "high": 1.0, "log": True},
    "losses.mining_power": {"low": 0.0, "high": 5.0},
    "losses.squared_weight": {"low": 0.0, "high": 2.0},
    "losses.residual_weight": {"low": 0.1, "high": 10.0, "log": True},
    "num_prototypes": {"low": 2, "high": 12},
    "lr": {"low": 0.0002, "high": 0.002, "log": True},
}


@dataclass(frozen=True)
class PlusLossSettings(LossSettings):
    """`coherence` is the "soft" loss or INP-Former's ("nearest"), of weight λ; `cosine_weight` and `squared_weight` are
    those of the branches, in the loss and in the map; `residual_weight` is β, 0 for no head.
    """

    coherence: Literal["soft", "nearest"] = "soft"
    cosine_weight: float = 1.0
    squared_weight: float = 1.0
    residual_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cosine_weight", "squared_weight", "residual_weight"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        branches = self.cosine_weight + self.squared_weight
        require(branches > 0, "cosine_weight", self.cosine_weight, "above 0 where squared_weight is 0")


@dataclass(frozen=True)
class HeadSettings:
    """`training` is "jointly" with the reconstruction, "afterwards" for `epochs`, or "alone": on the network of a
    trained INP-Former, which stays as it is. `channels` are those between its three layers. `weight` is that of the
    head's map, beside 1 of the reconstruction's.
    """

    training: Literal["jointly", "afterwards", "alone"] = "jointly"
    channels: tuple[int, ...] = (64, 32)
    epochs: int = 100
    weight: float = 1.0

    def __post_init__(self) -> None:
        require_head(self.channels)
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(0 < self.weight <= 100, "weight", self.weight, "above 0 and at most 100, e.g. 1")


@dataclass(frozen=True)
class InpFormerPlusSettings(InpFormerSettings):
    """INP-Former's settings, and: `distances` are "relative", in units of the size of the training features, or
    "absolute", as the paper has them; `zero_shot` maps a token's distance to the "nearest" prototype or to the "soft"
    mix of them.
    """

    losses: PlusLossSettings = field(default_factory=PlusLossSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    distances: Literal["relative", "absolute"] = "relative"
    zero_shot: Literal["nearest", "soft"] = "nearest"
    lr: float = 5e-4
    final_lr: float = 5e-5

    def like(self, base: InpFormerSettings) -> "InpFormerPlusSettings":
        """For the head alone: with all that network, projection and memory of the model taken up were made with."""
        sizes: dict[str, Any] = {name: getattr(base, name) for name in ("num_prototypes", "grid", "channels", "memory")}
        return replace(self, **sizes)

    def __post_init__(self) -> None:
        super().__post_init__()
        right = f"null, but where head.training is {ALONE}: only an INP-Former has one"
        require(self.memory is None or self.head.training == ALONE, "memory", "a table", right)
        right = f"above 0 where head.training is {ALONE}: nothing else would be trained"
        trained = self.losses.residual_weight > 0 or self.head.training != ALONE
        require(trained, "losses.residual_weight", self.losses.residual_weight, right)
