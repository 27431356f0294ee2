"""The section `train` of params.yaml."""

from dataclasses import dataclass, field

from inpformer.config import require
from inpformer.methods.inp_former.settings import LossSettings
from inpformer.methods.setting import MULTI_CLASS, SINGLE_CLASS, ZERO_SHOT


@dataclass(frozen=True)
class TrainSettings:
    """The section `train` of params.yaml.

    `setting` is multi-class (one model for all categories), single-class (one each) or zero-shot (the distance to
    the image's own prototypes, by a model of other data). `weights` is null to train, or the folder of a detector
    whose models are taken as they are; zero-shot needs it.
    `batch_size` is the global batch, shared out over `num_workers`: a number, or the fewest and the most of an elastic
    run, which goes on with as many as the cluster has. `channels` are those of the projection, null for ViTs, which
    need none. `checkpoint_every` in epochs. `lr`, `final_lr` and `warmup` (iterations) make the
    schedule.
    """

    setting: str = MULTI_CLASS
    weights: str | None = None
    num_prototypes: int = 6
    losses: LossSettings = field(default_factory=LossSettings)
    channels: int | None = 128
    epochs: int = 200
    batch_size: int = 16
    lr: float = 1e-3
    final_lr: float = 1e-4
    warmup: int = 100
    seed: int = 1
    num_workers: int | tuple[int, int] = 1
    checkpoint_every: int = 10
    storage: str = ".runs"

    def __post_init__(self) -> None:
        modes = (MULTI_CLASS, SINGLE_CLASS, ZERO_SHOT)
        require(self.setting in modes, "setting", self.setting, f"one of {', '.join(modes)}")
        right = "a detector's folder for zero-shot"
        require(self.weights is not None or self.setting != ZERO_SHOT, "weights", self.weights, right)
        require(self.num_prototypes >= 1, "num_prototypes", self.num_prototypes, "at least 1 (the paper's is 6)")
        require(self.channels is None or self.channels >= 1, "channels", self.channels, "at least 1, or null for ViTs")
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        pair = (self.num_workers, self.num_workers) if isinstance(self.num_workers, int) else self.num_workers
        right = "at least 1, or the fewest and the most of them, e.g. [1, 4]"
        require(len(pair) == 2 and 1 <= pair[0] <= pair[1], "num_workers", self.num_workers, right)
        right = f"at least {pair[1]}, an image for each of num_workers"
        require(self.batch_size >= pair[1], "batch_size", self.batch_size, right)
        require(0 < self.lr <= 1, "lr", self.lr, "above 0 and at most 1")
        require(0 <= self.final_lr <= self.lr, "final_lr", self.final_lr, f"between 0 and lr, {self.lr}")
        require(self.warmup >= 0, "warmup", self.warmup, "0 or more")
        require(self.checkpoint_every >= 1, "checkpoint_every", self.checkpoint_every, "at least 1")
        right = "a folder or s3://bucket/prefix"
        require("://" not in self.storage or self.storage.startswith("s3://"), "storage", self.storage, right)
