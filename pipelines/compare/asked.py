"""What is asked for: what cannot be is refused before anything is loaded that takes seconds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb
from pathlib import Path

from inpformer.config import require
from inpformer.errors import UserError
from inpformer.methods import METHODS
from inpformer.methods.modes import ZERO_SHOT
from inpformer.metrics.paired import replicates_needed
from inpformer.training.settings import TrainSettings
from pipelines.manifest.table import comparable, read_manifest
from pipelines.platform import params
from pipelines.platform.params import read_section
from pipelines.promote.settings import PromoteSettings


@dataclass(frozen=True)
class Asked:
    """`methods` are the settings of each method's first training, `seeds` how many trainings it gets."""

    methods: tuple[TrainSettings, ...]
    seeds: int

    @property
    def trainings(self) -> list[TrainSettings]:
        """Method by method; seeds count up from train.seed. What learns nothing is the same for each of them."""
        return [
            replace(settings, seed=settings.seed + number)
            for settings in self.methods
            for number in range(self.seeds if settings.kind.learns else 1)
        ]


def refuse_unready(*files: Path) -> None:
    """Raises UserError for the first that an earlier stage has not left yet."""
    for file in files:
        if not file.exists():
            raise UserError(
                f"{file} is not there: run `dvc repro features` first, which makes all that is compared on."
            )


def ask(names: Sequence[str], seeds: int, manifest_file: Path) -> Asked:
    """What the command line and params.yaml ask for.

    Raises UserError for what cannot be compared, and where there is nothing to compare on.
    """
    for name in names:
        require(name in METHODS, "--methods", name, f"one of {', '.join(METHODS)}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--methods names {twice[0]} twice: name each method once.")
    require(len(names) > 1, "--methods", names[0], "two methods or more")
    require(seeds >= 1, "--seeds", seeds, "at least 1")
    refuse_few_draws(len(names), read_section("promote", PromoteSettings))
    manifest = read_manifest(manifest_file)
    methods = tuple(_settings(name, manifest.shots) for name in names)
    if not comparable(manifest.split("test"), manifest.categories):
        raise UserError(
            f"no category of {manifest.root} has both good and defective images in test: add some, there is nothing to "
            "compare on."
        )
    return Asked(methods, seeds)


def refuse_few_draws(methods: int, settings: PromoteSettings) -> None:
    """Raises UserError where so many draws cannot tell any pair of so many methods apart, however clear it is."""
    fewest = replicates_needed(comb(methods, 2), 1 - settings.confidence)
    right = f"at least {fewest}, for the pairs of {methods} methods"
    require(settings.replicates >= fewest, "params.yaml: promote.replicates", settings.replicates, right)


def _settings(name: str, shots: int | None) -> TrainSettings:
    """Those of a method in params.yaml. Raises UserError where it cannot be trained as `train` and `manifest` ask."""
    chosen = read_section("train", TrainSettings)
    if chosen.setting == ZERO_SHOT or chosen.weights is not None:
        what = "train.weights is set" if chosen.setting != ZERO_SHOT else f"train.setting is {ZERO_SHOT}"
        raise UserError(
            f"params.yaml: {what}: methods are compared by what each learns itself, set train.weights to null and "
            "train.setting to one that learns."
        )
    table = {**params.check().get("train", {}), "method": name, "num_workers": 1}
    settings = TrainSettings.from_table(table, f"{params.PARAMS_FILE}: train")
    try:
        settings.refuse_asked(shots, None, None)
    except UserError as error:
        raise UserError(f"{params.PARAMS_FILE}: {error}") from None
    return settings
