"""The section `tune` of params.yaml: what is searched, how long, on what trials are judged. Free of torch and Ray."""

from dataclasses import dataclass

from inpformer.config import require

PSEUDO, LABELLED, MISS_RATE = "pseudo", "labelled", "miss_rate"


@dataclass(frozen=True)
class Domain:
    """Where one parameter is looked for: from `low` to `high`, both included, evenly or (`log`) evenly in its
    logarithm; or among `choices`.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.choices is not None:
            require(self.low is None and self.high is None and not self.log, "choices", self.choices, "alone")
            distinct = len(set(self.choices)) == len(self.choices) >= 2
            require(distinct, "choices", list(self.choices), "two or more different values")
            return
        require(self.low is not None, "low", self.low, "a number (or give choices)")
        require(self.high is not None and self.low is not None and self.low < self.high, "high", self.high, "above low")
        require(not self.log or (self.low or 0) > 0, "low", self.low, "above 0 where log is true")


@dataclass(frozen=True)
class TuneSettings:
    """`trials` in all, 0 for no search; `concurrency` of them at a time, each with `cpus` and `gpus`, which may be
    fractions. A full trial takes `epochs` (null: as many as train takes); one that is not among the best 1 of
    `reduction` of those before it is stopped, first after `grace` epochs (of the last training, where a method has
    several), then after `reduction` times as many.

    The objective is the mean over `seeds` trainings, judged on at most `images` held-out good images against
    pseudo-anomalies ("pseudo"), or the labelled validation images ("labelled"): average precision. With "miss_rate" it
    is the share of pseudo-anomalies that FAIL at the threshold that these good images set at `false_alarm_rate`.
    `seed` is that of the sampler and of
    the pseudo-anomalies. `space` holds the parameters of train that are searched, by their dotted name there; null for
    the method's own.
    """

    trials: int = 0
    concurrency: int = 2
    cpus: float = 1.0
    gpus: float = 0.0
    epochs: int | None = None
    grace: int = 2
    reduction: int = 4
    seeds: int = 1
    images: int = 64
    objective: str = PSEUDO
    false_alarm_rate: float = 0.05
    seed: int = 0
    space: dict[str, Domain] | None = None

    def __post_init__(self) -> None:
        require(self.trials >= 0, "trials", self.trials, "0 (no search) or more")
        for name in ("concurrency", "grace", "seeds", "images"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.cpus > 0, "cpus", self.cpus, "above 0, a fraction where trials share a CPU")
        require(self.gpus >= 0, "gpus", self.gpus, "0 or more, a fraction where trials share a GPU")
        require(
            self.epochs is None or self.epochs >= 1, "epochs", self.epochs, "at least 1, or null for as many as train"
        )
        require(self.reduction >= 2, "reduction", self.reduction, "at least 2")
        known = (PSEUDO, LABELLED, MISS_RATE)
        require(self.objective in known, "objective", self.objective, f"one of {', '.join(known)}")
        right = "between 0 and 1, e.g. 0.05"
        require(0 < self.false_alarm_rate < 1, "false_alarm_rate", self.false_alarm_rate, right)
        right = "the parameters to search, one at least, or null for the method's own"
        require(self.space is None or bool(self.space) or not self.trials, "space", self.space, right)
