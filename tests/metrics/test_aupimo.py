"""AUPIMO against its definition by brute force, by hand, and whatever tail of scores it may keep."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inpformer.errors import UserError
from inpformer.metrics.aupimo import Aupimo, AupimoStream

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
LOW, HIGH = 1e-5, 1e-4


def sample(seed: int, *, ties: bool) -> tuple[list[Map], list[Mask]]:
    """Five normal images of different sizes, 170 000 pixels, with three small anomalous ones between them."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for height, share in ((150, 0), (20, 0.4), (150, 0), (200, 0), (20, 1), (250, 0), (30, 0.1), (100, 0)):
        mask = rng.random((height, 200)) < share
        scores = rng.normal(size=mask.shape) + 4 * mask
        maps.append((np.round(scores * 8) / 8 if ties else scores).astype(np.float32))
        masks.append(mask)
    return maps, masks


def by_definition(maps: Sequence[Map], masks: Sequence[Mask]) -> list[float]:
    """NaN for normal images. One loop over the distinct scores of the normal images, from the highest."""
    normal = [m for m, mask in zip(maps, masks, strict=True) if not mask.any()]
    levels = np.unique(np.concatenate([m.ravel() for m in normal]))[::-1]
    values = []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        if not mask.any():
            values.append(np.nan)
            continue
        area, rate = 0.0, 0.0
        for level in levels:
            before, rate = rate, float(np.mean([np.mean(m >= level) for m in normal]))
            left, right = np.mean(anomaly_map[mask] > level), np.mean(anomaly_map[mask] >= level)
            if rate > LOW and before < HIGH:
                x = np.linspace(np.log(max(before, LOW)), np.log(min(rate, HIGH)), 3)
                area += np.trapezoid(np.interp(x, np.log([before, rate]), [left, right]), x)
            if rate >= HIGH:
                break
        values.append(area / np.log(HIGH / LOW))
    return values


def streamed(maps: Sequence[Map], masks: Sequence[Mask], tail: int, folder: Path) -> Aupimo:
    with AupimoStream(tail, folder) as stream:
        for anomaly_map, mask in zip(maps, masks, strict=True):
            stream.add(anomaly_map, mask)
        return stream.result()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("tail", [30, 2**20])
def test_agrees_with_the_definition(tail: int, ties: bool, tmp_path: Path) -> None:
    maps, masks = sample(1, ties=ties)
    expected = by_definition(maps, masks)
    assert 0.1 < np.nanmin(expected) < np.nanmax(expected) < 0.9
    result = streamed(maps, masks, tail, tmp_path)
    np.testing.assert_allclose(result.images, expected, rtol=0, atol=1e-12)
    assert result.mean == pytest.approx(np.nanmean(expected), abs=1e-12)
    assert list(tmp_path.iterdir()) == []


def normals_by_hand() -> list[Map]:
    """Two images of 100 000 pixels, all zero but for the scores 1 to 40 in one of them. A pixel is a rate of 5e-6."""
    maps = [np.zeros((100, 1000), np.float32) for _ in range(2)]
    maps[1].flat[:40] = np.arange(1, 41)
    return maps


def test_upright_curve_by_hand(tmp_path: Path) -> None:
    maps = [*normals_by_hand(), np.array([[34.5, 34.5, 99]], np.float32), np.array([[99, -1, 99]], np.float32)]
    masks = [np.zeros_like(m, np.bool_) for m in maps]
    masks[2][0, :2] = True  # found from 34 on, where six normal pixels have been: a rate of 3e-5
    masks[3][0, :2] = True  # one of two always, one of two never
    expected = [np.nan, np.nan, np.log10(1e-4 / 3e-5), 0.5]
    np.testing.assert_allclose(streamed(maps, masks, 100, tmp_path).images, expected, atol=1e-12)


def test_line_that_crosses_the_bound_is_cut_there(tmp_path: Path) -> None:
    maps = [*normals_by_hand(), np.full((1, 2), 5, np.float32)]
    masks = [np.zeros_like(m, np.bool_) for m in maps]
    masks[2][:] = True
    maps[1][maps[1] < 38] = 5  # from three pixels, a rate of 1.5e-5, to all of one image, 0.5
    span = np.log(0.5 / 1.5e-5)
    inside = np.log(1e-4 / 1.5e-5)
    assert streamed(maps, masks, 100, tmp_path).mean == pytest.approx(inside**2 / span / 2 / np.log(10))


def test_all_and_nothing(tmp_path: Path) -> None:
    maps = [*normals_by_hand(), np.full((2, 2), 41, np.float32), np.full((2, 2), -1, np.float32)]
    masks = [np.full(m.shape, i > 1) for i, m in enumerate(maps)]
    result = streamed(maps, masks, 100, tmp_path)
    assert result.images[2:] == pytest.approx([1, 0], abs=1e-12)
    assert result.images[2] <= 1


def test_memory_is_bounded_by_the_tail(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tail = 2**13
    tracemalloc.start()
    with AupimoStream(tail, tmp_path) as stream:
        for i in range(200):  # 819 200 pixels, of which 204 800 anomalous
            stream.add(rng.random((64, 64), np.float32), np.full((64, 64), i % 4 == 3))
        stream.result()
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 150 * tail  # all scores together are 400 × tail bytes


def test_images_without_meaning_are_refused(tmp_path: Path) -> None:
    normals = normals_by_hand()
    clean = [np.zeros_like(m, np.bool_) for m in normals]
    spot = np.ones((1, 1), np.bool_)
    with pytest.raises(UserError, match="got 2 normal and 0 anomalous"):
        streamed(normals, clean, 100, tmp_path)
    with pytest.raises(UserError, match="got 0 normal and 1 anomalous"):
        streamed([np.zeros((1, 1), np.float32)], [spot], 100, tmp_path)
    with pytest.raises(UserError, match="got 0 normal and 0 anomalous"):
        streamed([], [], 100, tmp_path)
    with pytest.raises(UserError, match="NaN or infinite"):
        streamed([np.full((1, 1), np.nan, np.float32)], [spot], 100, tmp_path)


def test_rates_that_cannot_be_resolved_are_refused(tmp_path: Path) -> None:
    maps = [*normals_by_hand(), np.zeros((1, 1), np.float32)]
    masks = [np.full(m.shape, i > 1) for i, m in enumerate(maps)]
    with pytest.raises(UserError, match=r"the highest score of the normal images alone covers 1\.1e-05"):
        streamed([maps[1][:90], maps[2]], [masks[1][:90], masks[2]], 100, tmp_path)  # 90 000 pixels
    for tail in (1, 100):
        with pytest.raises(UserError, match=r"alone covers 1 of their pixels"):
            streamed([maps[0], maps[2]], [masks[0], masks[2]], tail, tmp_path)  # constant
    with pytest.raises(UserError, match=r"keeps the 19 highest scores .* only 9\.5e-05 .* raise `tail`"):
        streamed(maps, masks, 19, tmp_path)
    assert streamed(maps, masks, 20, tmp_path).mean == 0
