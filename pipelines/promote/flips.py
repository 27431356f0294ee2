"""The test images that two versions decide differently about, the clearest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from inpformer.images.frame import Frame
from inpformer.judging.calibration import Threshold, Verdict
from pipelines.evaluate.measure import Judged
from pipelines.manifest.table import Row
from pipelines.promote.seen import Seen

SHOWN = 60


@dataclass(frozen=True)
class Flip:
    """An image and what each of the two versions saw; `distance` is how far apart they are, in usual distances of a
    good part's score from the threshold.
    """

    row: Row
    seen: tuple[Seen, Seen]
    distance: float

    @classmethod
    def of(
        cls, image: Image.Image, judged: Sequence[Judged], limits: Sequence[Threshold], frames: Sequence[Frame]
    ) -> "Flip":
        """See above."""
        one, two = (Seen.of(image, j, limit, frame) for j, limit, frame in zip(judged, limits, frames, strict=True))
        beyond = [
            (seen.score - seen.threshold) / (limit.usual_distance or 1.0)
            for seen, limit in zip((one, two), limits, strict=True)
        ]
        return cls(judged[0].row, (one, two), abs(beyond[0] - beyond[1]))

    @property
    def better(self) -> bool | None:
        """Whether the challenger is right where the other one is not; None where neither is, or both are."""
        right = [_right(seen.decision, self.row.label) for seen in self.seen]
        return None if right[0] == right[1] else right[0]


class Flips:
    """Lists all, and keeps the pictures of the clearest SHOWN of them."""

    def __init__(self, names: tuple[str, str]) -> None:
        self.names = names
        self.listed: list[dict[str, Any]] = []
        self.clearest: list[Flip] = []

    @property
    def count(self) -> int:
        """Of all."""
        return len(self.listed)

    def add(self, flip: Flip) -> None:
        """Takes one."""
        row = flip.row
        true = {"path": row.path, "sha256": row.sha256, "category": row.category, "label": row.label}
        decided = [{"decision": seen.decision, "score": seen.score, "threshold": seen.threshold} for seen in flip.seen]
        self.listed.append({**true, "challenger": decided[0], "other": decided[1]})
        self.clearest = sorted([*self.clearest, flip], key=lambda one: -one.distance)[:SHOWN]


def _right(decision: Verdict, label: int) -> bool:
    """A defective part that goes to a person is caught; a good one is not lost."""
    return decision != "PASS" if label else decision != "FAIL"
