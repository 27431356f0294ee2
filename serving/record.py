"""What the record of a model says of its champion. The pipeline writes it, into the parameters of a run; here it is
only read, to see whether somebody moved the alias past it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The registered model beside a model, and its tag with the run of the record.
PLACE, RUN_TAG = "{}-record", "inpformer.record.run"
CHAMPION = "champion"
# After these the aliases are to move; after those they stand as the entry says.
INTENTS = ("promotion", "rollback", "forced")
STEPS = ("promoted", "reverted", "abandoned", "taken over")


@dataclass(frozen=True)
class LastStep:
    """The entry that says where the champion stands, by whom and when (ISO 8601); `version` None: there is none."""

    number: int
    version: str | None
    by: str = ""
    at: str = ""

    def drift(self, version: int) -> str | None:
        """What an operator should know where `version` is @champion and the record says otherwise; None where both
        agree.
        """
        if self.version == str(version):
            return None
        return (
            f"version {version} is @champion, and by the record (entry {self.number}) it is {self.version or 'none'}: "
            f"the alias was moved by hand. The next `python -m pipelines.promote` records that."
        )


def last_step(params: Mapping[str, str]) -> LastStep | None:
    """Of a record's parameters; None where they say nothing, or the aliases are moving just now."""
    found: LastStep | None = None
    for key in sorted(key for key in params if len(key) == 6 and key.isdecimal()):
        entry = _read(params[key])
        kind = entry.get("kind")
        drift = kind == "drift"
        if kind in INTENTS or (drift and entry.get("policy") == "revert"):
            found = None
        elif kind in STEPS or drift:
            found = LastStep(int(key), entry.get(CHAMPION), str(entry.get("actor", "")), str(entry.get("time", "")))
    return found


def _read(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
