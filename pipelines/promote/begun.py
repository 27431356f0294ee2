"""How each command that may move an alias starts: what others left is settled, and the champion of now is known."""

import sys
from dataclasses import dataclass

from pipelines.platform.registry import Version, find_version
from pipelines.promote.protocol import ready
from pipelines.promote.settings import PromoteSettings
from pipelines.record.record import Record
from pipelines.record.steps import State


@dataclass(frozen=True)
class Begun:
    """The champion of now (None if there is none), and the record that it was read from."""

    record: Record
    state: State
    champion: Version | None
    settings: PromoteSettings

    @property
    def model_name(self) -> str:
        """The registered model."""
        return self.record.model_name

    def serves(self, version: Version) -> bool:
        """Whether a version is the champion already; says then that nothing changes."""
        if version.number != self.state.champion:
            return False
        print(f"{self.model_name} version {version.number} is @champion: nothing changes", file=sys.stderr)
        return True


def begin(model_name: str, settings: PromoteSettings) -> Begun:
    """Finishes or undoes what others began. Raises UserError for a model that the registry does not have."""
    record = Record.open(model_name)
    state = ready(record, settings.drift)
    return Begun(record, state, find_version(model_name, state.champion) if state.champion else None, settings)
