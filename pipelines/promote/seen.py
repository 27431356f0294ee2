"""What a detector saw of an image, kept small, and how a page shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeVar

import numpy as np
from matplotlib import colormaps
from numpy import bool_, float32, generic
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from inpformer.images.frame import Frame
from inpformer.judging.calibration import Threshold, Verdict
from inpformer.judging.plausibility import reviewed
from pipelines.evaluate.measure import Judged
from pipelines.manifest.table import Row
from pipelines.platform.html import figure

T = TypeVar("T", bound=generic)
SIDE = 256  # pixels, of what is kept: maps of tiled images are as large as these
OUTLINE = (215, 48, 31)


@dataclass(frozen=True)
class Seen:
    """What one detector saw of an image: `picture`, `anomaly_map` and true `mask` are of one size, of SIDE pixels or
    less a side; a pixel of the two latter is the largest of those that it stands for.
    """

    decision: Verdict
    score: float
    threshold: float
    picture: Image.Image
    anomaly_map: NDArray[float32]
    mask: NDArray[bool_]

    @classmethod
    def of(cls, image: Image.Image, judged: Judged, limit: Threshold, frame: Frame) -> "Seen":
        """`frame` says where on the image the map lies."""
        heat, mask = _small(judged.anomaly_map), _small(judged.mask)
        picture = frame.visible(image).resize((heat.shape[1], heat.shape[0]))
        decision = reviewed(limit.decide(judged.score), judged.doubted)
        return cls(decision, judged.score, limit.threshold, picture, heat, mask)


def _small(values: NDArray[T]) -> NDArray[T]:
    """[H, W] by blocks, each its largest value; what is left over at the far edges is cut off."""
    step = -(-max(values.shape) // SIDE)
    if step == 1:
        return values
    rows, columns = max(1, values.shape[0] // step), max(1, values.shape[1] // step)
    whole = values[: rows * step, : columns * step]
    found: NDArray[T] = whole.reshape(rows, -1, columns, whole.shape[1] // columns).max(axis=(1, 3))
    return found


def beside(row: Row, several: Sequence[Seen], names: Sequence[str], kind: str) -> str:
    """An image with its true outline and what each of several detectors saw of it, as HTML; `kind` is the class of the
    block.
    """
    truth = f"defective ({row.defect})" if row.label else "good"
    figures = [figure(_outlined(several[0]), f"it is {truth}")]
    for seen, name in zip(several, names, strict=True):
        figures.append(
            figure(_coloured(seen), f"{name}: {seen.decision}, {seen.score:.3f} against {seen.threshold:.3f}")
        )
    where = f"<p><b>{escape(row.category)}</b>: {escape(row.path)}</p>"
    return f'<div class="finding {kind}">{where}<div class="pictures">{"".join(figures)}</div></div>'


def _outlined(seen: Seen) -> Image.Image:
    pixels = np.array(seen.picture.convert("RGB"))
    pixels[_edge(seen.mask)] = OUTLINE
    return Image.fromarray(pixels)


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Some pixels wide in maps of any size: thumbnails are small."""
    width = max(1, mask.shape[0] // 128)
    edge: NDArray[np.bool_] = ndimage.binary_dilation(mask, iterations=width) & ~mask
    return edge


def _coloured(seen: Seen) -> Image.Image:
    """The threshold is in the middle of the colours."""
    top = 2 * seen.threshold if seen.threshold > 0 else float(seen.anomaly_map.max()) or 1.0
    scaled = np.clip(seen.anomaly_map / top, 0, 1)
    return Image.fromarray((colormaps["inferno"](scaled)[..., :3] * 255).astype(np.uint8))
