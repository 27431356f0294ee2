"""Regions of a map above the threshold, in the pixels of the image."""

import numpy as np
import pytest
import torch

from inpformer.images.transform import Transform
from inpformer.judging.regions import find_regions
from inpformer.nn.maps import image_scores

WHOLE = Transform(64, 64, (0.0,), (1.0,))
CROPPED = Transform(448, 392, (0.0,), (1.0,))
SIZE = (512, 256)


def two_blobs() -> np.ndarray:
    anomaly_map = np.full((256, 256), 0.1, np.float32)
    anomaly_map[10:20, 30:60] = 0.6
    anomaly_map[200:204, 100:110] = 0.7
    anomaly_map[201, 105] = 0.9
    return anomaly_map


def test_two_blobs_are_two_boxes_the_highest_peak_first() -> None:
    regions = find_regions(two_blobs(), 0.5, WHOLE.frame(SIZE))
    assert [region.box for region in regions] == [(200, 200, 220, 204), (60, 10, 120, 20)]
    assert [region.peak for region in regions] == pytest.approx([0.9, 0.6])
    assert [region.area for region in regions] == pytest.approx([4 * 10 * 2, 10 * 30 * 2])


def test_a_crop_shifts_and_shrinks_what_a_map_covers() -> None:
    everything = np.ones((256, 256), np.float32)
    (region,) = find_regions(everything, 0.5, CROPPED.frame((896, 448)))
    assert region.box == (56, 28, 840, 420)
    assert region.area == pytest.approx((840 - 56) * (420 - 28))


def test_only_what_is_above_the_threshold_counts() -> None:
    assert find_regions(two_blobs(), 0.95, WHOLE.frame(SIZE)) == []
    assert len(find_regions(two_blobs(), 0.65, WHOLE.frame(SIZE))) == 1
    flat = np.full((256, 256), 0.5, np.float32)
    assert find_regions(flat, 0.5, WHOLE.frame(SIZE)) == []


def test_diagonal_neighbours_are_one_region() -> None:
    anomaly_map = np.zeros((256, 256), np.float32)
    anomaly_map[[5, 6, 8], [5, 6, 8]] = 1
    assert [region.box for region in find_regions(anomaly_map, 0.5, WHOLE.frame(SIZE))] == [
        (10, 5, 14, 7),
        (16, 8, 18, 9),
    ]


def test_a_region_inside_anothers_box_keeps_its_own_peak_and_area() -> None:
    anomaly_map = np.zeros((256, 256), np.float32)
    anomaly_map[0:40, 0] = anomaly_map[39, 0:40] = 0.6  # an L around
    anomaly_map[10, 20] = 0.9
    inner, outer = find_regions(anomaly_map, 0.5, WHOLE.frame(SIZE))
    assert (inner.peak, outer.peak) == pytest.approx((0.9, 0.6))
    assert (inner.area, outer.area) == pytest.approx((2, 79 * 2))


@pytest.mark.parametrize("decimals", [7, 1, 0])
def test_an_image_that_fails_has_a_region(decimals: int) -> None:
    maps = np.random.default_rng(0).random((20, 256, 256)).round(decimals).astype(np.float32)
    for anomaly_map, score in zip(maps, image_scores(torch.from_numpy(maps)), strict=True):
        just_failing = float(np.nextafter(float(score), 0.0))
        assert find_regions(anomaly_map, just_failing, WHOLE.frame(SIZE))
