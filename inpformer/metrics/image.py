"""Exact image-level detection metrics: every distinct score is one threshold and nothing is binned.

An image is called anomalous when its score reaches the threshold.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpformer.errors import UserError

Scores = NDArray[np.floating]
Labels = NDArray[np.bool_] | NDArray[np.integer]
# Cumulative numbers of items at falling thresholds [..., t]: whole numbers, as floats where items are weighted.
Counts = NDArray[np.intp] | NDArray[np.float64]


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


def image_metrics(scores: Scores, labels: Labels) -> ImageMetrics:
    """Rates image scores [n] against labels [n] (non-zero means anomalous).

    Agrees with scikit-learn's roc_auc_score and average_precision_score, and with the largest F1 over its
    precision_recall_curve. O(n log n) time.

    Raises UserError if a score is NaN or infinite or one of the two classes is absent, ValueError if the
    shapes are not one and the same [n].
    """
    anomalous = checked_images(scores, labels, "AUROC needs")
    _, found, alarms = _counts_at_distinct_scores(scores, anomalous)
    auroc, ap, f1max = separation(found, alarms)
    return ImageMetrics(float(auroc), float(ap), float(f1max))


def separation(found: Counts, alarms: Counts) -> tuple[NDArray[np.float64], ...]:
    """AUROC, AP and F1max, each [...], of curves given as cumulative counts at falling thresholds.

    found, alarms: [..., t] anomalous and normal items that reach each threshold; the last column holds all of
    them, so neither may be zero there. Several items that share a column are tied.
    """
    total, normals = found[..., -1:], alarms[..., -1:]
    gained = np.diff(found, prepend=0)
    normals_below = normals - alarms + np.diff(alarms, prepend=0) / 2
    reported = found + alarms
    # A weighted sample may report nothing at the first thresholds.
    precision = found / np.where(reported > 0, reported, 1)
    return (
        np.sum(gained * normals_below, axis=-1) / (total * normals)[..., 0],
        np.sum(gained * precision, axis=-1) / total[..., 0],
        np.max(2 * found / (reported + total), axis=-1),
    )


def roc_curve(scores: Scores, labels: Labels) -> RocCurve:
    """Traces the ROC curve of image scores [n] against labels [n] (non-zero means anomalous).

    Raises what image_metrics raises.
    """
    anomalous = checked_images(scores, labels, "A ROC curve needs")
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
    anomalous = checked_images(scores, labels, "A precision-recall curve needs")
    thresholds, found, alarms = _counts_at_distinct_scores(scores, anomalous)
    return PrecisionRecallCurve(precision=found / (found + alarms), recall=found / found[-1], thresholds=thresholds)


def _counts_at_distinct_scores(
    scores: Scores, anomalous: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Distinct scores, highest first, and how many anomalous and normal items reach each: [t], [t], [t]."""
    values, levels = np.unique(scores, return_inverse=True)
    found, alarms = (
        np.cumsum(np.bincount(levels[which], minlength=len(values))[::-1]) for which in (anomalous, ~anomalous)
    )
    return values[::-1].astype(np.float64), found, alarms


def checked_images(scores: Scores, labels: Labels, need: str) -> NDArray[np.bool_]:
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} must both be [n]")
    anomalous = labels.astype(np.bool_)
    found = np.count_nonzero(anomalous)
    if found in (0, scores.size):
        raise UserError(
            f"{need} both normal and anomalous images: got {scores.size - found} normal and {found} anomalous."
        )
    if bad := scores.size - np.count_nonzero(np.isfinite(scores)):
        raise UserError(f"{bad} of the scores of {scores.size} images are NaN or infinite: check their model.")
    return anomalous
