"""The section `gate` of params.yaml."""

from dataclasses import dataclass

from inpformer.config import require
from pipelines.gate.finding import CHECKS


@dataclass(frozen=True)
class GateSettings:
    """`ignore` names the checks that are left out."""

    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.ignore:
            require(name in CHECKS, "ignore", name, f"among {', '.join(CHECKS)}")
