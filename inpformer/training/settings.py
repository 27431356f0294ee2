"""The section `train` of params.yaml: which method learns from what, and where; the method's own settings below it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from inpformer.config import build_fields, require
from inpformer.errors import UserError
from inpformer.methods import METHODS, find_method
from inpformer.methods.method import Method
from inpformer.methods.modes import MULTI_CLASS, ZERO_SHOT

OWN = "own"
TORCH = "torch"  # the backend that every method has
# Where a training runs and what it leaves behind on the way, not what it learns.
ELSEWHERE = ("num_workers", "checkpoint_every", "storage")


@dataclass(frozen=True)
class TrainSettings:
    """`method` is one of `inpformer.methods`, `own` its settings, in params.yaml the table of its name.

    `setting` is multi-class (one model for all categories), single-class (one each), semi-supervised (multi-class, and
    it learns from some real defects) or zero-shot (maps by a model of other data). `weights` is null to train, or the
    folder of a detector whose models are taken as they are, which zero-shot needs, or built on, where the method's own
    settings say so. `batch_size` is the global batch, shared out over `num_workers`: a number, or the fewest and the
    most of an elastic run, which goes on with as many as the cluster has. `checkpoint_every` in epochs.
    """

    method: str = "inp_former"
    setting: str = MULTI_CLASS
    weights: str | None = None
    batch_size: int = 16
    seed: int = 1
    num_workers: int | tuple[int, int] = 1
    checkpoint_every: int = 10
    storage: str = ".runs"
    own: Any = field(default=None)

    def __post_init__(self) -> None:
        method = find_method(self.method)
        if self.own is None:
            object.__setattr__(self, OWN, method.settings())
        having = sorted({mode for one in METHODS.values() for mode in one.modes})
        require(self.setting in having, "setting", self.setting, f"one of {', '.join(having)}")
        others = ", ".join(name for name, one in METHODS.items() if self.setting in one.modes)
        right = f"one of {', '.join(method.modes)}: {self.method} has no other ({self.setting} is one of {others})"
        require(self.setting in method.modes, "setting", self.setting, right)
        right = "a detector's folder for zero-shot"
        require(self.weights is not None or self.setting != ZERO_SHOT, "weights", self.weights, right)
        base = method.builds_on(self.own)
        right = f"the folder of a detector of {base}, which {self.method} builds on with these settings"
        require(not base or (self.weights is not None and self.setting != ZERO_SHOT), "weights", self.weights, right)
        pair = (self.num_workers, self.num_workers) if isinstance(self.num_workers, int) else self.num_workers
        right = "at least 1, or the fewest and the most of them, e.g. [1, 4]"
        require(len(pair) == 2 and 1 <= pair[0] <= pair[1], "num_workers", self.num_workers, right)
        right = f"at least {pair[1]}, an image for each of num_workers"
        require(self.batch_size >= pair[1], "batch_size", self.batch_size, right)
        require(self.checkpoint_every >= 1, "checkpoint_every", self.checkpoint_every, "at least 1")
        right = "a folder or s3://bucket/prefix"
        require("://" not in self.storage or self.storage.startswith("s3://"), "storage", self.storage, right)

    @property
    def kind(self) -> Method:
        """The method itself."""
        return METHODS[self.method]

    def refuse_asked(self, shots: int | None, folds: int | None, backend: str | None) -> None:
        """Raises UserError where the method has not what other sections ask of it, with those that do: manifest.shots,
        calibrate.folds and evaluate.backend. None asks for nothing.
        """
        learning = ", ".join(name for name, one in METHODS.items() if one.learns)
        none = f"null, as {self.method} learns nothing from good images"
        right = f"{none} (few-shot is one of {learning})"
        require(self.kind.learns or shots is None, "manifest.shots", shots, right)
        right = f"{none}: hold out as many as you like, with manifest.val_fraction (folds are of {learning})"
        require(self.kind.learns or folds is None, "calibrate.folds", folds, right)
        exported = ", ".join(name for name, one in METHODS.items() if not one.torch_only)
        right = f"{TORCH}: {self.method} has no export, as {self.kind.torch_only} (exports are of {exported})"
        require(not self.kind.torch_only or backend in (None, TORCH), "evaluate.backend", backend, right)

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides what is learnt: equal for trainings that differ in where they run alone."""
        return {name: value for name, value in asdict(self).items() if name not in ELSEWHERE}

    @property
    def table(self) -> dict[str, Any]:
        """As in params.yaml; `from_table` is the counterpart."""
        values = asdict(self)
        own = values.pop(OWN)
        return {**values, self.method: own}

    @classmethod
    def from_table(cls, values: Mapping[str, Any], where: str) -> "TrainSettings":
        """From the section `train`, which may hold the tables of several methods; all of them are checked.

        Raises UserError for an unknown key and for an impossible value.
        """
        known = [f.name for f in fields(cls) if f.name != OWN] + list(METHODS)
        if unknown := sorted(set(values) - set(known), key=str):
            raise UserError(f"{where}.{unknown[0]} is not a known key: use one of {', '.join(known)}.")
        own = {
            name: build_fields(method.settings, {} if values.get(name) is None else values[name], f"{where}.{name}")
            for name, method in METHODS.items()
        }
        general = {name: value for name, value in values.items() if name not in METHODS}
        chosen = own.get(str(values.get("method", cls.method)))
        return build_fields(cls, {**general, OWN: chosen}, where)
