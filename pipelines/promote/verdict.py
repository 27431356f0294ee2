"""What the gate says of a challenger. Read without torch, scipy and mlflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["better", "not worse", "worse", "too few images to say"]
BETTER: Outcome = "better"
NOT_WORSE: Outcome = "not worse"
WORSE: Outcome = "worse"
TOO_FEW: Outcome = "too few images to say"


@dataclass(frozen=True)
class Verdict:
    """`challenger` and `champion` are version numbers; champion None: it was weighed against chance and a baseline.
    `details` is all that the verdict rests on, as in verdict.json; `digest` is the sha256 (hex) of that file, `page`
    says where the page lies in MLflow.
    """

    outcome: Outcome
    allows: bool
    sentence: str
    challenger: str
    champion: str | None
    details: Mapping[str, Any]
    digest: str
    page: str

    def as_json(self) -> dict[str, Any]:
        """As verdict.json has it, with where that is."""
        return {**self.content, "digest": self.digest, "page": self.page}

    @property
    def content(self) -> dict[str, Any]:
        """What verdict.json holds."""
        return {
            "outcome": self.outcome,
            "allows": self.allows,
            "sentence": self.sentence,
            "challenger": self.challenger,
            "champion": self.champion,
            **self.details,
        }
