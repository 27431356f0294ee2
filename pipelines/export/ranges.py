"""The pictures by which the ranges of an encoder in 8 bit are set."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from inpformer.errors import UserError
from inpformer.images.views import views
from inpformer.judging.detector import Detector
from pipelines.manifest.table import Manifest, Row
from pipelines.promote.rescore import content_of

# More of them widen a range by little: they are good parts, and a picture has thousands of values.
PICTURES = 128


def chosen(manifest: Manifest) -> list[Row]:
    """Good training images, some PICTURES in all, of each category alike. No held-out ones: these set the thresholds,
    and would no longer be as new to the export as a part to come. Raises UserError if there are none.
    """
    good = [row for row in manifest.split("train") if not row.label]
    if not good:
        raise UserError(
            "8 bits take good training images to set ranges by, and the version's list has none: export 16 bits."
        )
    by_category: dict[str, list[Row]] = {}
    for row in good:
        by_category.setdefault(row.category, []).append(row)
    most = max(1, PICTURES // len(by_category))
    return [row for own in by_category.values() for row in own[:: -(-len(own) // most)]]


def pictures(detector: Detector, root: Path, rows: Sequence[Row]) -> Iterator[NDArray[np.uint8]]:
    """What the encoder sees of each image, of a tiled one a tile: [S, S, 3]. Raises UserError for an image that is
    gone, changed or unreadable.
    """
    for number, row in enumerate(tqdm(rows, desc="setting ranges", unit="image", disable=None)):
        image = detector.open(content_of(root, row), str(root / row.path))
        seen = views(image.size, detector.tiling, augmented=False)
        yield np.ascontiguousarray(seen[number % len(seen)].picture(image, detector.encoder.transform))
