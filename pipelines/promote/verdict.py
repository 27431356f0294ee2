"""What the gate says of a challenger."""

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Verdict:
    """`digest` is the sha256 (hex) of verdict.json; `page` says where the page lies."""

    outcome: Literal["better", "not worse", "worse", "too few images to say"]
    allows: bool
    sentence: str
    challenger: str
    champion: str | None
    digest: str
    page: str

    def as_json(self) -> dict[str, Any]:
        """As a table."""
        return asdict(self)
