"""Exact detection and localisation metrics: every distinct score is one threshold and nothing is binned.

An item (an image or a pixel) is called anomalous when its score reaches the threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inpformer.errors import UserError

AUPRO_FPR_LIMIT = 0.3

Scores = NDArray[np.floating]
Labels = NDArray[np.bool_] | NDArray[np.integer]


@dataclass(frozen=True)
class ImageMetrics:
    """How well scores separate anomalous images from normal ones: all in [0, 1], higher is better.

    auroc: area under the ROC curve by the trapezoid rule, so a tie between the classes counts one half.
    ap: average precision, the sum over thresholds of (recall gained) × precision, without interpolation.
    f1max: the largest F1 over all thresholds.
    """

    auroc: float
    ap: float
    f1max: float


@dataclass(frozen=True)
class PixelMetrics:
    """How well anomaly maps separate anomalous pixels from normal ones: all in [0, 1], higher is better.

    auroc, ap, f1max: as in ImageMetrics, over all pixels of all images together.
    aupro: mean of the per-region overlap over false-positive rates from 0 to 0.3 (see pixel_metrics).
    """

    auroc: float
    ap: float
    f1max: float
    aupro: float


@dataclass(frozen=True)
class RocCurve:
    """Operating points in order of falling threshold, each array float64 [t + 1] for t distinct scores.

    The first point is (0, 0) at an infinite threshold, where nothing is called anomalous.
    """

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]
    thresholds: NDArray[np.float64]


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Operating points in order of falling threshold, each array float64 [t] for t distinct scores.

    Precision has no value where nothing is called anomalous, so no point at recall 0 is added.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    thresholds: NDArray[np.float64]


Metrics = TypeVar("Metrics", ImageMetrics, PixelMetrics)


def image_metrics(scores: Scores, labels: Labels) -> ImageMetrics:
    """Rates image scores [n] against labels [n] (non-zero means anomalous).

    Agrees with scikit-learn's roc_auc_score and average_precision_score, and with the largest F1 over its
    precision_recall_curve. O(n log n) time.

    Raises UserError if a score is NaN or infinite or one of the two classes is absent, ValueError if the
    shapes are not one and the same [n].
    """
    anomalous = _checked_images(scores, labels, "AUROC needs")
    return _metrics(_thresholds(scores[~anomalous], scores[anomalous]))


def pixel_metrics(maps: Scores, masks: NDArray[np.bool_]) -> PixelMetrics:
    """Rates anomaly maps [n, H, W] against masks [n, H, W] (True means anomalous), all images together.

    AUPRO follows Bergmann et al., "The MVTec Anomaly Detection Dataset" (IJCV 2021): the regions are the
    8-connected components of each mask; at each threshold the share of a region's pixels that are found is
    averaged over the regions, whatever their sizes; the curve of that mean over the false-positive rate (of
    the normal pixels of all images, good ones included) starts at (0, 0), is linear between thresholds, is
    integrated from 0 to exactly 0.3, and is divided by 0.3. An image without anomalous pixels counts as
    normal throughout, so leave out anomalous images that have no mask.

    The sort is shared by all four. At a threshold that no anomalous pixel has, recall and overlap stand still
    and precision can only fall, so only the distinct scores of the a anomalous pixels are looked up in the
    sorted normal scores. O(p log p) time for p = n·H·W pixels; beside the arguments it holds a copy of the
    normal scores, 2·p bytes of flags and about 60·a bytes.

    Raises UserError if a score is NaN or infinite or there is no anomalous or no normal pixel, ValueError if
    the shapes are not one and the same [n, H, W] or masks are not boolean.
    """
    if maps.ndim != 3 or maps.shape != masks.shape:
        raise ValueError(f"maps {maps.shape} and masks {masks.shape} must both be [n, H, W]")
    if masks.dtype != np.bool_:
        raise ValueError(f"masks must be boolean, not {masks.dtype}")
    _refuse_unusable(maps, masks, "AUROC needs", "pixels")
    points = _thresholds(maps[~masks], maps[masks])
    overlap_gained = np.bincount(points.levels, weights=_region_shares(masks))
    shared = _metrics(points)
    return PixelMetrics(
        auroc=shared.auroc,
        ap=shared.ap,
        f1max=shared.f1max,
        aupro=min(_mean_height(overlap_gained, points, AUPRO_FPR_LIMIT), 1.0),  # shares are rounded
    )


def mean_over(metrics: Sequence[Metrics]) -> Metrics:
    """Averages each metric over a sequence of at least one, such as one per category.

    Raises IndexError if the sequence is empty.
    """
    kind = type(metrics[0])
    return kind(**{f.name: fmean(getattr(m, f.name) for m in metrics) for f in fields(kind)})


def roc_curve(scores: Scores, labels: Labels) -> RocCurve:
    """Traces the ROC curve of image scores [n] against labels [n] (non-zero means anomalous).

    Raises what image_metrics raises.
    """
    anomalous = _checked_images(scores, labels, "A ROC curve needs")
    thresholds, found, alarms = _counts_at_distinct_scores(scores, anomalous)
    return RocCurve(
        fpr=np.concatenate(([0.0], alarms / alarms[-1])),
        tpr=np.concatenate(([0.0], found / found[-1])),
        thresholds=np.concatenate(([np.inf], thresholds)),
    )


def precision_recall_curve(scores: Scores, labels: Labels) -> PrecisionRecallCurve:
    """Traces precision against recall of image scores [n] against labels [n] (non-zero means anomalous).

    Raises what image_metrics raises.
    """
    anomalous = _checked_images(scores, labels, "A precision-recall curve needs")
    thresholds, found, alarms = _counts_at_distinct_scores(scores, anomalous)
    return PrecisionRecallCurve(precision=found / (found + alarms), recall=found / found[-1], thresholds=thresholds)


@dataclass(frozen=True)
class _Thresholds:
    """Counts at each of the t distinct scores of the a anomalous items, lowest first; no metric needs others.

    levels: int [a], the threshold that each anomalous item's score is.
    gained: int [t], anomalous items with exactly this score.
    found: int [t], anomalous items with this score or a higher one.
    alarms_before, alarms: int [t], normal items with a higher score, and with this score or a higher one.
    normals: the number of normal items.
    """

    levels: NDArray[np.intp]
    gained: NDArray[np.intp]
    found: NDArray[np.intp]
    alarms_before: NDArray[np.intp]
    alarms: NDArray[np.intp]
    normals: int


def _thresholds(normal: Scores, anomalous: Scores) -> _Thresholds:
    normal.sort()  # in place: at pixel level this is the only large copy
    values, levels, gained = np.unique(anomalous, return_inverse=True, return_counts=True)
    return _Thresholds(
        levels=levels,
        gained=gained,
        found=np.cumsum(gained[::-1])[::-1],
        alarms_before=normal.size - np.searchsorted(normal, values, side="right"),
        alarms=normal.size - np.searchsorted(normal, values, side="left"),
        normals=normal.size,
    )


def _metrics(points: _Thresholds) -> ImageMetrics:
    total = points.found[0]
    reported = points.found + points.alarms
    return ImageMetrics(
        auroc=_mean_height(points.gained, points, 1.0) / float(total),
        ap=float(np.sum(points.gained * (points.found / reported)) / total),
        f1max=float(np.max(2 * points.found / (reported + total))),
    )


def _mean_height(gained: NDArray[np.generic], points: _Thresholds, fpr_limit: float) -> float:
    """Mean, over false-positive rates from 0 to `fpr_limit`, of the curve that rises by `gained` [t].

    Each rise is a straight line from its alarms_before to its alarms (upright if they are equal). It adds a
    triangle over that span and a rectangle from its end to the limit; a line that crosses the limit is cut.
    """
    limit = fpr_limit * points.normals
    start = np.minimum(points.alarms_before, limit)
    end = np.minimum(points.alarms, limit)
    span = np.maximum(points.alarms - points.alarms_before, 1)  # an upright line has end == start: adds 0 / 1
    width = (limit - end) + (end - start) ** 2 / (2 * span)
    return float(np.sum(gained * width) / limit)


def _region_shares(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What finding each anomalous pixel adds to the regions' mean overlap: [a], ordered as maps[masks]."""
    shares = []
    regions = 0
    for mask in masks:
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        region = labelled[mask]
        shares.append(1 / np.bincount(region)[region])
        regions += count
    return np.concatenate(shares) / regions


def _counts_at_distinct_scores(
    scores: Scores, anomalous: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Distinct scores, highest first, and how many anomalous and normal items reach each: [t], [t], [t]."""
    values, levels = np.unique(scores, return_inverse=True)
    found, alarms = (
        np.cumsum(np.bincount(levels[which], minlength=len(values))[::-1]) for which in (anomalous, ~anomalous)
    )
    return values[::-1].astype(np.float64), found, alarms


def _checked_images(scores: Scores, labels: Labels, need: str) -> NDArray[np.bool_]:
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} must both be [n]")
    anomalous = labels.astype(np.bool_)
    _refuse_unusable(scores, anomalous, need, "images")
    return anomalous


def _refuse_unusable(scores: Scores, anomalous: NDArray[np.bool_], need: str, items: str) -> None:
    found = np.count_nonzero(anomalous)
    normal = anomalous.size - found
    if found == 0 or normal == 0:
        raise UserError(f"{need} both normal and anomalous {items}: got {normal} normal and {found} anomalous.")
    if bad := scores.size - np.count_nonzero(np.isfinite(scores)):
        raise UserError(f"{bad} of the scores of {scores.size} {items} are NaN or infinite: check their model.")
