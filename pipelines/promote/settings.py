"""The section `promote` of params.yaml."""

from dataclasses import dataclass

from pipelines.record.steps import DriftPolicy


@dataclass(frozen=True)
class PromoteSettings:
    """`approval`: a second person must approve. `drift`: what is done about aliases that were moved past the record."""

    approval: bool = False
    drift: DriftPolicy = "accept"
