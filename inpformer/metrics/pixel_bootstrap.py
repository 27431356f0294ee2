"""The replicates of pixel metrics, of which `inpformer.metrics.bootstrap` makes confidence intervals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inpformer.errors import UserError
from inpformer.metrics.bootstrap import BATCH, Replicates, draws
from inpformer.metrics.closing import Closing
from inpformer.metrics.descent import area
from inpformer.metrics.image import separation
from inpformer.metrics.pixel import AUPRO_FPR_LIMIT
from inpformer.metrics.pixel_scores import PixelScores, PixelSpill, Regions, by_class, by_region, merged
from inpformer.metrics.settings import BootstrapSettings
from inpformer.metrics.spro import SPRO_FPR_LIMIT

BINS = 4096
SAMPLE = 2**18  # pixels of each class that place the bins


class PixelReplicateStream(Closing):
    """Takes one map at a time; `result` gives the replicates of the pixel metrics. A context manager.

    An image is drawn as one of the anomalous ones if its mask has anomalous pixels: leave out anomalous images without
    a mask.

    Scores are binned, as is fine for an interval but not for the value itself: half of the 4096 bins hold equal shares
    of the normal pixels and half of the anomalous ones, by a sample of 2^18 pixels of each class from all images. What
    shares a bin counts as tied, which moves the values by less than 1e-3. With n images of p pixels, a of them
    anomalous, in all: O(p log p + replicates × n × bins) time, as matrix products (a few seconds for 1000 replicates of
    1000 maps of 256×256); 4·p + 8·a bytes of nameless temporary files in `folder` (by default the system's temporary
    folder); memory of 24 bytes × replicates × bins and 2 bytes × replicates × n.
    """

    def __init__(self, settings: BootstrapSettings, folder: Path | None = None, smooth: bool = False) -> None:
        self._drawn = _Drawn(settings, folder, smooth)

    def close(self) -> None:
        """Lets go of the temporary files."""
        self._drawn.close()

    def add(self, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_], group: str = "") -> None:
        """Takes a map [H, W] and its mask [H, W]; images of one `group` are drawn together, "" is a group of its own.
        Raises what PixelMetricsStream.add raises.
        """
        self._drawn.add(*by_class(anomaly_map, mask), group)

    def result(self) -> dict[str, Replicates]:
        """The binned values of pixel_auroc, pixel_ap, pixel_f1max and aupro.

        Raises UserError if a class has no pixel in some replicate: there is no anomalous image, or hardly a normal
        pixel.
        """
        values = [
            np.stack([*separation(part.found, part.alarms), part.overlap_area(AUPRO_FPR_LIMIT)])
            for part in self._drawn.curves()
        ]
        names = ("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro")
        return dict(zip(names, np.concatenate(values, axis=1), strict=True))


class SproReplicateStream(Closing):
    """As `PixelReplicateStream`, of the sPRO of `inpformer.metrics.spro`."""

    def __init__(self, settings: BootstrapSettings, folder: Path | None = None, smooth: bool = False) -> None:
        self._drawn = _Drawn(settings, folder, smooth)

    def close(self) -> None:
        """Lets go of the temporary files."""
        self._drawn.close()

    def add(self, anomaly_map: NDArray[np.float32], regions: Regions, group: str = "") -> None:
        """Takes a map [H, W] and its regions; `group` as in `PixelReplicateStream.add`. Raises what that raises."""
        self._drawn.add(*by_region(anomaly_map, regions), group)

    def result(self) -> Replicates:
        """The binned values. Raises what `PixelReplicateStream.result` raises."""
        return np.concatenate([part.overlap_area(SPRO_FPR_LIMIT) for part in self._drawn.curves()])


@dataclass(frozen=True)
class _Curves:
    """Of r replicates, what reaches each threshold, highest first: normal pixels, anomalous pixels and the sum of their
    shares [r, t]; and the number of regions [r].
    """

    alarms: NDArray[np.float64]
    found: NDArray[np.float64]
    overlap: NDArray[np.float64]
    regions: NDArray[np.float64]

    def overlap_area(self, limit: float) -> NDArray[np.float64]:
        """The mean height of the overlap over false-positive rates from 0 to `limit`: [r]."""
        last = limit * self.alarms[:, -1:]
        before = np.concatenate((np.zeros_like(last), self.alarms[:, :-1]), axis=1)
        return area(np.diff(self.overlap, prepend=0), before, self.alarms, last) / last[:, 0] / self.regions


class _Drawn(Closing):
    """Pixel scores that wait on disk until they are binned and images are drawn."""

    def __init__(self, settings: BootstrapSettings, folder: Path | None, smooth: bool) -> None:
        self._settings, self._smooth = settings, smooth
        self._spilled = PixelSpill(folder)
        self._regions: list[int] = []
        self._groups: list[str] = []

    def close(self) -> None:
        """Lets go of the temporary files."""
        self._spilled.close()

    def add(self, scores: PixelScores, regions: int, group: str) -> None:
        """Takes the scores of an image with so many regions, none of a good one."""
        self._spilled.append(merged([scores]))
        self._regions.append(regions)
        self._groups.append(group or f"image {len(self._groups):09}")

    def curves(self) -> Iterator[_Curves]:
        """Of all replicates, BATCH at a time or fewer."""
        images = self._spilled.parts()
        regions = np.array(self._regions)
        weights = draws(regions > 0, self._settings, self._groups, self._smooth)
        thresholds = self._bins(images)
        alarms, found, overlap = (np.zeros((len(weights), len(thresholds))) for _ in range(3))
        for start in range(0, len(images), BATCH):
            batch = slice(start, start + BATCH)
            drawn = weights[:, batch].astype(np.float64)
            by_image = [_reached(image, thresholds) for image in images[batch]]
            for total, counts in zip((alarms, found, overlap), zip(*by_image, strict=True), strict=True):
                total += drawn @ np.stack(counts)
            self._spilled.forget()
        if not (alarms[:, -1].all() and found[:, -1].all()):
            raise UserError("Confidence intervals of pixel metrics need normal and anomalous pixels in every draw.")
        for part in np.array_split(np.arange(len(weights)), -(-len(weights) // BATCH)):
            yield _Curves(alarms[part], found[part], overlap[part], weights[part] @ regions)

    def _bins(self, images: Sequence[PixelScores]) -> NDArray[np.float32]:
        """The lower edges of the bins, highest first: [t]. The last is below every score."""
        edges = [np.array([-np.inf], np.float32)]
        for arrays in ([i.normal for i in images], [i.anomalous for i in images]):
            starts = np.cumsum([0, *(a.size for a in arrays)])
            step = max(1, -(-int(starts[-1]) // SAMPLE))
            parts = [np.empty(0, np.float32)]
            for number, (array, start) in enumerate(zip(arrays, starts, strict=False)):
                # Every step-th pixel; as each image is sorted, it is sampled evenly over its scores.
                parts.append(array[-start % step :: step].copy())
                if number % BATCH == 0:
                    self._spilled.forget()
            sample = np.sort(np.concatenate(parts))
            edges.append(sample[np.linspace(0, sample.size - 1, min(BINS // 2, sample.size)).astype(int)])
        return np.unique(np.concatenate(edges))[::-1]


def _reached(image: PixelScores, thresholds: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
    """Normal pixels, anomalous pixels and region shares of an image that reach each threshold: [t] each."""
    first = image.anomalous.searchsorted(thresholds)
    shares = np.append(np.cumsum(image.shares[::-1])[::-1], 0.0)
    return (
        (image.normal.size - image.normal.searchsorted(thresholds)).astype(np.float64),
        (image.anomalous.size - first).astype(np.float64),
        shares[first],
    )
