"""The image metrics against scikit-learn, and cases small enough to work out by hand."""

from dataclasses import astuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from inpformer.errors import UserError
from inpformer.metrics.image import image_metrics, precision_recall_curve, roc_curve


def sample(seed: int, *, ties: bool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    labels = rng.random(500) < 0.3
    scores = rng.normal(size=500) + labels
    return (np.round(scores * 2) if ties else scores).astype(np.float32), labels


def by_sklearn(scores: NDArray[np.float32], labels: NDArray[np.bool_]) -> tuple[float, float, float]:
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return (
        sklearn_metrics.roc_auc_score(labels, scores),
        sklearn_metrics.average_precision_score(labels, scores),
        f1.max(),
    )


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_sklearn(seed: int, ties: bool) -> None:
    scores, labels = sample(seed, ties=ties)
    expected = by_sklearn(scores, labels)
    assert astuple(image_metrics(scores, labels)) == pytest.approx(expected, abs=1e-12)
    assert astuple(image_metrics(scores.astype(np.float64), labels.astype(int))) == pytest.approx(expected)


@pytest.mark.parametrize("ties", [False, True])
def test_curves_agree_with_sklearn(ties: bool) -> None:
    scores, labels = sample(0, ties=ties)
    roc = roc_curve(scores, labels)
    fpr, tpr, thresholds = sklearn_metrics.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose([roc.fpr, roc.tpr, roc.thresholds], [fpr, tpr, thresholds])
    curve = precision_recall_curve(scores, labels)
    precision, recall, thresholds = sklearn_metrics.precision_recall_curve(labels, scores)
    np.testing.assert_allclose(
        [curve.precision, curve.recall, curve.thresholds],
        [precision[-2::-1], recall[-2::-1], thresholds[::-1]],
    )


def test_four_images_by_hand() -> None:
    # at 0.9 one of two is found without alarm; at 0.5 both are, with one alarm of two
    metrics = image_metrics(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0]))
    assert metrics.auroc == pytest.approx(3.5 / 4)  # pairs won, the tie as one half
    assert metrics.ap == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert metrics.f1max == pytest.approx(0.8)


def test_constant_scores_know_nothing() -> None:
    metrics = image_metrics(np.full(20, 3.0), np.arange(20) < 2)
    assert astuple(metrics) == pytest.approx((0.5, 0.1, 0.2 / 1.1))


@pytest.mark.parametrize("call", [image_metrics, roc_curve, precision_recall_curve])
def test_images_without_meaning_are_refused(call) -> None:  # type: ignore[no-untyped-def]
    scores = np.arange(12.0)
    with pytest.raises(UserError, match="both normal and anomalous images: got 12 normal and 0 anomalous"):
        call(scores, np.zeros(12, int))
    with pytest.raises(UserError, match="got 0 normal and 12 anomalous"):
        call(scores, np.ones(12, np.bool_))
    for bad in (np.nan, np.inf):
        with pytest.raises(UserError, match="1 of the scores of 12 images are NaN or infinite"):
            call(np.where(scores == 3, bad, scores), np.arange(12) % 2)
    with pytest.raises(ValueError, match=r"scores \(12,\) and labels \(11,\)"):
        call(scores, np.zeros(11, int))
