"""The metrics against scikit-learn, AUPRO by its definition, and cases small enough to work out by hand."""

from dataclasses import astuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from sklearn import metrics as sklearn_metrics

from inpformer.errors import UserError
from inpformer.metrics import (
    ImageMetrics,
    PixelMetrics,
    image_metrics,
    mean_over,
    pixel_metrics,
    precision_recall_curve,
    roc_curve,
)


def sample(seed: int, *, ties: bool, shape: tuple[int, ...] = (500,)) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    labels = rng.random(shape) < 0.3
    scores = rng.normal(size=shape) + labels
    return (np.round(scores * 2) if ties else scores).astype(np.float32), labels


def by_sklearn(scores: NDArray[np.float32], labels: NDArray[np.bool_]) -> tuple[float, float, float]:
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return (
        sklearn_metrics.roc_auc_score(labels, scores),
        sklearn_metrics.average_precision_score(labels, scores),
        f1.max(),
    )


def aupro_by_definition(maps: NDArray[np.float32], masks: NDArray[np.bool_], limit: float = 0.3) -> float:
    regions = []
    for i, mask in enumerate(masks):
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [maps[i][labelled == r] for r in range(1, count + 1)]
    fpr, pro = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        fpr.append(float(np.mean(maps[~masks] >= threshold)))
        pro.append(float(np.mean([np.mean(region >= threshold) for region in regions])))
    area = 0.0
    for x0, x1, y0, y1 in zip(fpr, fpr[1:], pro, pro[1:], strict=False):
        if x0 < limit < x1:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_sklearn(seed: int, ties: bool) -> None:
    scores, labels = sample(seed, ties=ties)
    expected = by_sklearn(scores, labels)
    assert astuple(image_metrics(scores, labels)) == pytest.approx(expected, abs=1e-12)
    assert astuple(image_metrics(scores.astype(np.float64), labels.astype(int))) == pytest.approx(expected)
    pixels = pixel_metrics(scores.reshape(5, 10, 10), labels.reshape(5, 10, 10))
    assert (pixels.auroc, pixels.ap, pixels.f1max) == pytest.approx(expected, abs=1e-12)


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


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_aupro_agrees_with_its_definition(seed: int, ties: bool) -> None:
    maps, masks = sample(seed, ties=ties, shape=(4, 9, 11))
    masks &= np.random.default_rng(seed).random(masks.shape) < 0.3  # sparse enough for several regions an image
    masks[0] = False  # a good image
    assert ndimage.label(masks[1], structure=np.ones((3, 3)))[1] > 1
    assert pixel_metrics(maps, masks).aupro == pytest.approx(aupro_by_definition(maps, masks), abs=1e-12)


def test_four_images_by_hand() -> None:
    # at 0.9 one of two is found without alarm; at 0.5 both are, with one alarm of two
    metrics = image_metrics(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0]))
    assert metrics.auroc == pytest.approx(3.5 / 4)  # pairs won, the tie as one half
    assert metrics.ap == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert metrics.f1max == pytest.approx(0.8)


def test_line_that_crosses_the_limit_is_cut_there() -> None:
    # Ten normal pixels. The lone pixel is found at no false alarm, the pair at a score that it shares with
    # four normal pixels: the mean overlap rises from 1/2 at FPR 0 to 1 at FPR 0.4, so it is 0.875 at 0.3.
    maps = np.array([[[9, 0, 5, 5, 5, 5, 5, 5, 0, 0, 0, 0, 0]]], np.float32)
    masks = np.zeros(maps.shape, np.bool_)
    masks[0, 0, [0, 2, 3]] = True
    assert pixel_metrics(maps, masks).aupro == pytest.approx((0.5 + 0.875) / 2)


def test_diagonal_neighbours_are_one_region() -> None:
    maps = np.zeros((1, 4, 4), np.float32)
    masks = np.zeros((1, 4, 4), np.bool_)
    masks[0, [0, 1, 3], [0, 1, 3]] = True
    maps[0, 3, 3] = 1  # all of one region out of two, then everything at once
    at_limit = 0.5 + 0.5 * 0.3
    assert pixel_metrics(maps, masks).aupro == pytest.approx((0.5 + at_limit) / 2)


def test_perfect_map_gives_one() -> None:
    _, masks = sample(0, ties=False, shape=(3, 8, 8))
    assert astuple(pixel_metrics(masks.astype(np.float32), masks)) == pytest.approx((1, 1, 1, 1), abs=1e-12)


def test_constant_scores_know_nothing() -> None:
    masks = np.zeros((2, 5, 2), np.bool_)
    masks[0, 0] = True  # 2 of 20 pixels
    metrics = pixel_metrics(np.full(masks.shape, 3, np.float32), masks)
    assert astuple(metrics) == pytest.approx((0.5, 0.1, 0.2 / 1.1, 0.15))


def test_depends_on_the_order_of_scores_alone() -> None:
    maps, masks = sample(1, ties=True, shape=(3, 8, 8))
    expected = pixel_metrics(maps, masks)
    kept = maps.copy()
    assert pixel_metrics(np.exp(maps.astype(np.float64)), masks) == expected
    assert pixel_metrics(3 * maps - 100, masks) == expected
    np.testing.assert_array_equal(maps, kept)


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


def test_pixels_without_meaning_are_refused() -> None:
    maps, masks = sample(0, ties=False, shape=(2, 5, 5))
    with pytest.raises(UserError, match="pixels: got 50 normal and 0 anomalous"):
        pixel_metrics(maps, np.zeros_like(masks))
    with pytest.raises(UserError, match="pixels: got 0 normal and 50 anomalous"):
        pixel_metrics(maps, np.ones_like(masks))
    with pytest.raises(UserError, match="NaN or infinite"):
        pixel_metrics(np.where(maps > 1, np.float32(np.nan), maps), masks)
    with pytest.raises(ValueError, match="must both be"):
        pixel_metrics(maps, masks[:1])
    with pytest.raises(ValueError, match="must be boolean, not uint8"):
        pixel_metrics(maps, masks.astype(np.uint8))


def test_mean_over_categories() -> None:
    mean = mean_over([PixelMetrics(1, 0.5, 0.25, 0), PixelMetrics(0, 0.5, 0.75, 1)])
    assert mean == PixelMetrics(auroc=0.5, ap=0.5, f1max=0.5, aupro=0.5)
    assert mean_over([ImageMetrics(1, 0, 0.5)]) == ImageMetrics(auroc=1, ap=0, f1max=0.5)
