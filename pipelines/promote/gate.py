"""Weighs a challenger against the champion."""

from pathlib import Path

from inpformer.errors import UserError
from pipelines.platform.registry import Version
from pipelines.promote.settings import PromoteSettings
from pipelines.promote.verdict import Verdict


def weigh(
    model_name: str, challenger: Version, champion: Version | None, settings: PromoteSettings, folder: Path
) -> Verdict:
    """See the branch verdict."""
    raise UserError("the gate is not there yet: use --force.")
