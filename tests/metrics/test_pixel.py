"""The pixel metrics against brute force over all thresholds and scikit-learn, whatever memory they may use."""

import tracemalloc
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from sklearn import metrics as sklearn_metrics

from inpformer.errors import UserError
from inpformer.metrics.pixel import PixelMetrics, PixelMetricsStream, pixel_metrics

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]


def sample(seed: int, *, ties: bool, shape: tuple[int, int, int] = (6, 9, 11)) -> tuple[Map, Mask]:
    """Random maps and masks of several regions an image, but for a good image in front."""
    rng = np.random.default_rng(seed)
    masks = rng.random(shape) < 0.1
    masks[0] = False
    scores = rng.normal(size=shape) + masks
    return (np.round(scores * 2) if ties else scores).astype(np.float32), masks


def by_definition(maps: Iterable[Map], masks: Iterable[Mask]) -> tuple[float, float, float, float]:
    """AUROC, AP, F1max and AUPRO by one loop over all distinct scores."""
    regions: list[Map] = []
    normal: list[Map] = []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [anomaly_map[labelled == r] for r in range(1, count + 1)]
        normal.append(anomaly_map[~mask])
    good, bad = np.concatenate(normal), np.concatenate(regions)
    points = [(0.0, 0.0, 0.0)]
    ap = f1max = 0.0
    for threshold in np.unique(np.concatenate((good, bad)))[::-1]:
        found, alarms = np.sum(bad >= threshold), np.sum(good >= threshold)
        ap += (found / bad.size - points[-1][1]) * found / (found + alarms)
        f1max = max(f1max, 2 * found / (found + alarms + bad.size))
        overlap = float(np.mean([np.mean(region >= threshold) for region in regions]))
        points.append((alarms / good.size, found / bad.size, overlap))
    fpr, recall, overlap_curve = np.transpose(points)
    return float(np.trapezoid(recall, fpr)), ap, f1max, area_by_definition(fpr, overlap_curve, 0.3)


def area_by_definition(x: NDArray[np.float64], y: NDArray[np.float64], limit: float) -> float:
    area = 0.0
    for x0, x1, y0, y1 in zip(x, x[1:], y, y[1:], strict=False):
        if x0 < limit < x1:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def streamed(maps: Iterable[Map], masks: Iterable[Mask], memory_pixels: int, folder: Path | None) -> PixelMetrics:
    with PixelMetricsStream(memory_pixels, folder) as stream:
        for anomaly_map, mask in zip(maps, masks, strict=True):
            stream.add(anomaly_map, mask)
        return stream.result()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_definition_and_with_sklearn(seed: int, ties: bool) -> None:
    maps, masks = sample(seed, ties=ties)
    assert ndimage.label(masks[1], structure=np.ones((3, 3)))[1] > 1
    metrics = pixel_metrics(maps, masks)
    assert astuple(metrics) == pytest.approx(by_definition(maps, masks), abs=1e-12)
    assert metrics.auroc == pytest.approx(sklearn_metrics.roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert metrics.ap == pytest.approx(sklearn_metrics.average_precision_score(masks.ravel(), maps.ravel()), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("memory_pixels", [1, 7, 60, 99, 250, 593])
def test_memory_does_not_change_the_result(memory_pixels: int, ties: bool, tmp_path: Path) -> None:
    maps, masks = sample(3, ties=ties)
    expected = astuple(pixel_metrics(maps, masks))
    assert astuple(streamed(maps, masks, memory_pixels, tmp_path)) == pytest.approx(expected, abs=1e-12)
    assert list(tmp_path.iterdir()) == []


def test_signs_zeros_and_extremes_are_ordered_right(tmp_path: Path) -> None:
    big, small = np.finfo(np.float32).max, np.float32(1e-45)  # the smallest float32 above zero
    values = np.array([-big, -1, -small, -0.0, 0.0, small, 1, big], np.float32)
    rng = np.random.default_rng(0)
    maps = rng.choice(values, (8, 5, 5))
    masks = rng.random(maps.shape) < 0.2
    metrics = streamed(maps, masks, 3, tmp_path)
    assert astuple(metrics) == pytest.approx(by_definition(maps, masks), abs=1e-12)


@pytest.mark.parametrize("memory_pixels", [40, 10_000])
def test_maps_may_differ_in_size(memory_pixels: int, tmp_path: Path) -> None:
    pairs = [sample(seed, ties=True, shape=(2, 4 + seed, 9 - seed)) for seed in range(4)]
    maps, masks = [m for p in pairs for m in p[0]], [m for p in pairs for m in p[1]]
    metrics = streamed(maps, masks, memory_pixels, tmp_path)
    assert astuple(metrics) == pytest.approx(by_definition(maps, masks), abs=1e-12)


@pytest.mark.parametrize(("anomalous_share", "bytes_a_pixel"), [(0.02, 20), (0.9, 140)])
def test_memory_is_bounded_whatever_the_number_of_maps(
    anomalous_share: float, bytes_a_pixel: int, tmp_path: Path
) -> None:
    memory_pixels = 2**14

    def peak(images: int) -> int:
        rng = np.random.default_rng(0)
        tracemalloc.start()
        with PixelMetricsStream(memory_pixels, tmp_path) as stream:
            for _ in range(images):
                stream.add(rng.random((64, 64), np.float32), rng.random((64, 64)) < anomalous_share)
            stream.result()
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    # The scores of 96 maps are 24 × memory_pixels: at 4 to 12 bytes each, they would not fit.
    assert peak(96) < bytes_a_pixel * memory_pixels
    assert peak(96) < 1.15 * peak(48)


def test_result_may_be_asked_for_between_maps(tmp_path: Path) -> None:
    maps, masks = sample(2, ties=True)
    with PixelMetricsStream(200, tmp_path) as stream:
        for count, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True), start=1):
            stream.add(anomaly_map, mask)
            if count > 2:
                expected = by_definition(maps[:count], masks[:count])
                assert astuple(stream.result()) == pytest.approx(expected, abs=1e-12)


def test_disk_is_clean_after_an_exception(tmp_path: Path) -> None:
    maps, masks = sample(0, ties=False)
    maps[4, 2, 2] = np.nan
    with pytest.raises(UserError, match="NaN"):
        streamed(maps, masks, 50, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_temporary_files_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No temporary file can be made in .*absent"):
        PixelMetricsStream(folder=tmp_path / "absent")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    monkeypatch.setattr("tempfile.TemporaryFile", lambda buffering, dir: full.open("wb", buffering))
    maps, masks = sample(0, ties=False)
    with pytest.raises(UserError, match=r"cannot be put aside on disk .*No space left"):
        streamed(maps, masks, 50, tmp_path)


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
    _, masks = sample(0, ties=False)
    metrics = pixel_metrics(masks.astype(np.float32), masks)
    assert astuple(metrics) == pytest.approx((1, 1, 1, 1), abs=1e-12)
    assert max(astuple(metrics)) <= 1


@pytest.mark.parametrize("memory_pixels", [4, 2**20])
def test_constant_scores_know_nothing(memory_pixels: int, tmp_path: Path) -> None:
    masks = np.zeros((2, 5, 2), np.bool_)
    masks[0, 0] = True  # 2 of 20 pixels
    metrics = streamed(np.full(masks.shape, 3, np.float32), masks, memory_pixels, tmp_path)
    assert astuple(metrics) == pytest.approx((0.5, 0.1, 0.2 / 1.1, 0.15))


def test_depends_on_the_order_of_scores_alone() -> None:
    maps, masks = sample(1, ties=True)
    expected = pixel_metrics(maps, masks)
    kept = maps.copy()
    assert pixel_metrics(np.exp(maps), masks) == expected
    assert pixel_metrics(3 * maps - 100, masks) == expected
    np.testing.assert_array_equal(maps, kept)


def test_maps_may_be_written_to_after_they_are_added() -> None:
    maps, masks = sample(1, ties=False)
    expected = pixel_metrics(maps, masks)
    with PixelMetricsStream() as stream:
        for anomaly_map, mask in zip(maps, masks, strict=True):
            stream.add(anomaly_map, mask)
            anomaly_map[:] = 0
        assert stream.result() == expected


def test_pixels_without_meaning_are_refused() -> None:
    maps, masks = sample(0, ties=False, shape=(2, 5, 5))
    with pytest.raises(UserError, match="pixels: got 50 normal and 0 anomalous"):
        pixel_metrics(maps, np.zeros_like(masks))
    with pytest.raises(UserError, match="pixels: got 0 normal and 50 anomalous"):
        pixel_metrics(maps, np.ones_like(masks))
    with PixelMetricsStream() as stream, pytest.raises(UserError, match="got 0 normal and 0 anomalous"):
        stream.result()
    for bad in (np.nan, np.inf, -np.inf):
        maps[1, 2, 3] = bad
        with pytest.raises(UserError, match="1 of the 25 scores of a map are NaN or infinite"):
            pixel_metrics(maps, masks)


def test_arrays_of_other_kinds_are_refused() -> None:
    maps, masks = sample(0, ties=False)
    with PixelMetricsStream() as stream:
        with pytest.raises(ValueError, match="must both be"):
            stream.add(maps[0], masks[0, 1:])
        with pytest.raises(ValueError, match="must both be"):
            stream.add(maps, masks)
        with pytest.raises(ValueError, match="not float32 and uint8"):
            stream.add(maps[0], masks[0].astype(np.uint8))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="not float64 and bool"):
            stream.add(maps[0].astype(np.float64), masks[0])  # type: ignore[arg-type]
