"""Confidence intervals of the metrics by bootstrap over images, stratified by label.

Each replicate draws as many normal and as many anomalous images as there are, with replacement; images of one part
(views, exposures) are drawn together, as they are not independent. The interval is Efron's
bias-corrected percentile interval (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 14, with
acceleration 0). It says how much the metrics would vary with other test images of the same kind, for the same model.
Of simulated intervals of 95 % for 100 images (and 430), 94 % (96) held the true AUROC, 91 % (95) the true AP and 86 %
(92) the true F1max, which picks its threshold on the images that it rates and so flatters. Where the classes are
separated without an error the replicates know of none, and the interval is [1, 1].

`smooth` draws weights instead: each part gets an exponential one, scaled so that those of a class add up to its number
(Rubin, "The Bayesian bootstrap", 1981). `inpformer.metrics.paired` needs these.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from inpformer.errors import UserError
from inpformer.metrics.closing import Closing
from inpformer.metrics.image import Labels, Scores, checked_images, separation
from inpformer.metrics.pixel import AUPRO_FPR_LIMIT, area
from inpformer.metrics.pixel_scores import PixelScores, PixelSpill, by_class, merged
from inpformer.metrics.settings import BootstrapSettings

Interval = tuple[float, float]
# A metric's values [1 + replicates]: the first for the images as they are.
Replicates = NDArray[np.float64]

BINS = 4096
SAMPLE = 2**18  # pixels of each class that place the bins
BATCH = 64  # images, and replicates, that are worked on at a time


def intervals(replicates: Mapping[str, Replicates], settings: BootstrapSettings) -> dict[str, Interval]:
    """The interval (low, high) of each metric. Replicates that have no value, for want of a class, do not count."""
    return {name: _interval(v[0], v[1:][np.isfinite(v[1:])], settings.confidence) for name, v in replicates.items()}


def image_replicates(
    scores: Scores,
    labels: Labels,
    settings: BootstrapSettings,
    groups: Sequence[str] | None = None,
    smooth: bool = False,
) -> dict[str, Replicates]:
    """The replicates of image_auroc, image_ap and image_f1max, each rated exactly.

    scores: [n]; labels: [n], non-zero means anomalous; groups: [n], images of one group are drawn together.
    O(replicates × n) time, 2 bytes of memory for each draw, 4 for each weight.

    Raises what image_metrics raises.
    """
    anomalous = checked_images(scores, labels, "Confidence intervals need")
    order = np.argsort(-scores.astype(np.float64))
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    weights = _draws(anomalous, settings, groups, smooth)[:, order]
    found_by_one = anomalous[order]
    values = [
        separation(
            np.cumsum(part * found_by_one, axis=1, dtype=np.float64)[:, last_of_tie],
            np.cumsum(part * ~found_by_one, axis=1, dtype=np.float64)[:, last_of_tie],
        )
        for part in np.array_split(weights, -(-len(weights) // BATCH))
    ]
    names = ("image_auroc", "image_ap", "image_f1max")
    return dict(zip(names, np.concatenate(values, axis=1), strict=True))


def mean_replicates(
    values: NDArray[np.float64],
    anomalous: NDArray[np.bool_],
    settings: BootstrapSettings,
    groups: Sequence[str] | None = None,
    smooth: bool = False,
) -> Replicates:
    """The replicates of a mean over images: `values` [n], NaN for the images that it is not taken over."""
    weights, counts = _draws(anomalous, settings, groups, smooth).astype(np.float64), np.isfinite(values)
    with np.errstate(invalid="ignore"):  # a replicate without any of these images has no mean
        return np.asarray((weights @ np.where(counts, values, 0.0)) / (weights @ counts))


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
        self._settings, self._smooth = settings, smooth
        self._spilled = PixelSpill(folder)
        self._regions: list[int] = []
        self._groups: list[str] = []

    def close(self) -> None:
        """Lets go of the temporary files."""
        self._spilled.close()

    def add(self, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_], group: str = "") -> None:
        """Takes a map [H, W] and its mask [H, W]; images of one `group` are drawn together, "" is a group of its own.
        Raises what PixelMetricsStream.add raises.
        """
        scores, regions = by_class(anomaly_map, mask)
        self._spilled.append(merged([scores]))
        self._regions.append(regions)
        self._groups.append(group or f"image {len(self._groups):09}")

    def result(self) -> dict[str, Replicates]:
        """The binned values of pixel_auroc, pixel_ap, pixel_f1max and aupro.

        Raises UserError if a class has no pixel in some replicate: there is no anomalous image, or hardly a normal
        pixel.
        """
        images = self._spilled.parts()
        regions = np.array(self._regions)
        weights = _draws(regions > 0, self._settings, self._groups, self._smooth)
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
        values = [
            _rated(alarms[part], found[part], overlap[part], weights[part] @ regions)
            for part in np.array_split(np.arange(len(weights)), -(-len(weights) // BATCH))
        ]
        names = ("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro")
        return dict(zip(names, np.concatenate(values, axis=1), strict=True))

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


def _draws(
    anomalous: NDArray[np.bool_],
    settings: BootstrapSettings,
    groups: Sequence[str] | None = None,
    smooth: bool = False,
) -> NDArray[np.uint16] | NDArray[np.float32]:
    """How often each replicate has each image, or with what weight: [1 + replicates, n]; the first row has each once.
    Groups are drawn whole; one is anomalous if any of its images is.
    """
    group = np.arange(anomalous.size) if groups is None else np.unique(groups, return_inverse=True)[1]
    group_anomalous = np.bincount(group, weights=anomalous) > 0
    rng = np.random.default_rng(settings.seed)
    draws = np.ones((1 + settings.replicates, group_anomalous.size), np.float32 if smooth else np.uint16)
    for members in filter(len, (np.flatnonzero(group_anomalous), np.flatnonzero(~group_anomalous))):
        if smooth:
            weights = rng.standard_exponential((settings.replicates, members.size), np.float32)
            draws[1:, members] = weights * (members.size / weights.sum(axis=1, keepdims=True))
            continue
        for row in draws[1:]:
            row[members] = np.bincount(rng.integers(members.size, size=members.size), minlength=members.size)
    return draws[:, group]


def _reached(image: PixelScores, thresholds: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
    """Normal pixels, anomalous pixels and region shares of an image that reach each threshold: [t] each."""
    first = image.anomalous.searchsorted(thresholds)
    shares = np.append(np.cumsum(image.shares[::-1])[::-1], 0.0)
    return (
        (image.normal.size - image.normal.searchsorted(thresholds)).astype(np.float64),
        (image.anomalous.size - first).astype(np.float64),
        shares[first],
    )


def _rated(
    alarms: NDArray[np.float64], found: NDArray[np.float64], overlap: NDArray[np.float64], regions: NDArray[np.intp]
) -> NDArray[np.float64]:
    """AUROC, AP, F1max and AUPRO [4, r] of r replicates' cumulative counts [r, t]."""
    limit = AUPRO_FPR_LIMIT * alarms[:, -1:]
    alarms_before = np.concatenate((np.zeros_like(limit), alarms[:, :-1]), axis=1)
    aupro = area(np.diff(overlap, prepend=0), alarms_before, alarms, limit) / limit[:, 0] / regions
    return np.stack([*separation(found, alarms), aupro])


def _interval(value: np.float64, replicates: NDArray[np.float64], confidence: float) -> Interval:
    below = np.mean(replicates < value) + np.mean(replicates == value) / 2
    bias = ndtri(np.clip(below, 1 / (len(replicates) + 1), len(replicates) / (len(replicates) + 1)))
    reach = ndtri((1 + confidence) / 2)
    low, high = np.quantile(replicates, ndtr(2 * bias + np.array([-reach, reach])))
    return float(low), float(high)
