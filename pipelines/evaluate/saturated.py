"""What data of MVTec LOCO's kind is measured by besides: sPRO, and its two kinds of defect apart."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inpformer.images.layouts.sample import GOOD
from inpformer.judging.detector import Detector
from inpformer.metrics.bootstrap import Replicates, image_replicates
from inpformer.metrics.closing import Closing
from inpformer.metrics.pixel_bootstrap import SproReplicateStream
from inpformer.metrics.pixel_scores import Regions
from inpformer.metrics.settings import BootstrapSettings
from inpformer.metrics.spro import SproStream
from pipelines.manifest.build import read_regions
from pipelines.manifest.table import Row

# What metrics of all defects, and of those in each of LOCO's two folders, end in.
ALL = ""
ENDINGS = {ALL: "", "logical_anomalies": "_logical", "structural_anomalies": "_structural"}


def regions_of(row: Row, root: Path, detector: Detector) -> Regions | None:
    """An image's regions in the shape of its map; None where the data set has no saturations, or it is good.

    A region keeps the share of its pixels that is enough, whatever the map's size. Raises what `read_regions` raises.
    """
    if not row.saturations:
        return None
    masks = np.stack([detector.mask(mask) for mask in read_regions(root, row)])
    return Regions(masks, masks.sum(axis=(1, 2)) * np.array(row.saturations))


class Saturated(Closing):
    """Takes a category's maps one by one, as `Measurement` does. A context manager.

    LOCO's figure of a category is the mean of `spro_logical` and `spro_structural`: each counts the false alarms on
    good images and on those of its own kind. `spro` is of all images together.
    """

    def __init__(self, settings: BootstrapSettings, smooth: bool) -> None:
        self._settings, self._smooth = settings, smooth
        self._open = ExitStack()
        self._streams = {
            defect: (
                self._open.enter_context(SproStream()),
                self._open.enter_context(SproReplicateStream(settings, smooth=smooth)),
            )
            for defect in ENDINGS
        }
        self._with_regions: set[str] = set()

    def close(self) -> None:
        """Lets go of the temporary files."""
        self._open.close()

    def add(self, row: Row, anomaly_map: NDArray[np.float32], regions: Regions | None, group: str) -> None:
        """Takes a map [H, W]; images of one `group` are drawn together, "" is a group of its own. An anomalous image
        without a region on its map is left out.
        """
        if regions is None or not row.label:
            regions = Regions(np.zeros((0, *anomaly_map.shape), np.bool_), np.zeros(0))
        if row.label and not regions.masks.any():
            return
        for defect, (exact, drawn) in self._streams.items():
            if not row.label or defect in (ALL, row.defect):
                exact.add(anomaly_map, regions)
                drawn.add(anomaly_map, regions, group)
        if row.label:
            self._with_regions |= {ALL, row.defect}

    def report(
        self, rows: Sequence[Row], scores: NDArray[np.float32], groups: Sequence[str]
    ) -> tuple[dict[str, float], dict[str, Replicates]]:
        """The metrics and their replicates, of all images of the category, with their scores and groups [n]."""
        metrics, replicates = {}, {}
        for defect, (exact, drawn) in self._streams.items():
            if defect in self._with_regions:
                name = f"spro{ENDINGS[defect]}"
                metrics[name], replicates[name] = exact.result(), drawn.result()
        defects = np.array([row.defect if row.label else GOOD for row in rows])
        for defect in (one for one in ENDINGS if one in defects):
            mine = (defects == GOOD) | (defects == defect)
            own = image_replicates(
                scores[mine], defects[mine] != GOOD, self._settings, np.array(groups)[mine].tolist(), self._smooth
            )
            name = f"image_auroc{ENDINGS[defect]}"
            replicates[name] = own["image_auroc"]
            metrics[name] = float(replicates[name][0])
        return metrics, replicates
