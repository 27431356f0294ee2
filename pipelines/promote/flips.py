"""The test images that two versions decide differently about, the clearest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from numpy import bool_, float32, generic
from numpy.typing import NDArray
from PIL import Image

from inpformer.images.frame import Frame
from inpformer.judging.calibration import Threshold, Verdict
from inpformer.judging.plausibility import reviewed
from pipelines.evaluate.measure import Judged
from pipelines.manifest.table import Row

T = TypeVar("T", bound=generic)
SHOWN = 60
SIDE = 256  # pixels, of what is kept: maps of tiled images are as large as these


@dataclass(frozen=True)
class Seen:
    """What one version saw of an image: `picture`, `anomaly_map` and true `mask` are of one size, of SIDE pixels or
    less a side; a pixel of the two latter is the largest of those that it stands for.
    """

    decision: Verdict
    score: float
    threshold: float
    picture: Image.Image
    anomaly_map: NDArray[float32]
    mask: NDArray[bool_]


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
        one, two = (_seen(image, j, limit, frame) for j, limit, frame in zip(judged, limits, frames, strict=True))
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


def _seen(image: Image.Image, judged: Judged, limit: Threshold, frame: Frame) -> Seen:
    heat, mask = _small(judged.anomaly_map), _small(judged.mask)
    picture = frame.visible(image).resize((heat.shape[1], heat.shape[0]))
    return Seen(
        reviewed(limit.decide(judged.score), judged.doubted), judged.score, limit.threshold, picture, heat, mask
    )


def _small(values: NDArray[T]) -> NDArray[T]:
    """[H, W] by blocks, each its largest value; what is left over at the far edges is cut off."""
    step = -(-max(values.shape) // SIDE)
    if step == 1:
        return values
    rows, columns = max(1, values.shape[0] // step), max(1, values.shape[1] // step)
    whole = values[: rows * step, : columns * step]
    found: NDArray[T] = whole.reshape(rows, -1, columns, whole.shape[1] // columns).max(axis=(1, 3))
    return found


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
