"""Polygons around regions hold exactly their pixels."""

import numpy as np
import pytest
from scipy import ndimage

from inpformer.images.frame import Frame
from inpformer.judging.outlines import LONGEST, outline
from inpformer.judging.regions import find_regions

# Of a map of 32×48 that lies over a part of an image, four pixels a pixel.
FRAME = Frame((240, 160), (20.0, 10.0, 20.0 + 4 * 48, 10.0 + 4 * 32), (32, 48))


def outlines(anomaly_map: np.ndarray) -> list[list[tuple[float, float]]]:
    found = [outline(region, FRAME) for region in find_regions(anomaly_map, 0.5, FRAME)]
    assert None not in found
    return found  # type: ignore[return-value]


def test_a_pixel_is_a_square_clockwise() -> None:
    anomaly_map = np.zeros((32, 48), np.float32)
    anomaly_map[3, 5] = 1
    (found,) = outlines(anomaly_map)
    assert found == [(44.0, 22.0), (44.0, 26.0), (40.0, 26.0), (40.0, 22.0)]


def test_an_l_has_six_corners_and_a_ring_no_hole() -> None:
    anomaly_map = np.zeros((32, 48), np.float32)
    anomaly_map[2:9, 3] = anomaly_map[8, 3:20] = 1
    anomaly_map[15:26, 20:31] = 0.9
    anomaly_map[18:20, 23:25] = 0
    bent, ring = outlines(anomaly_map)
    assert len(bent) == 6
    assert sorted(ring) == [(100.0, 70.0), (100.0, 114.0), (144.0, 70.0), (144.0, 114.0)]


def test_pixels_that_touch_by_a_corner_are_within_one_polygon() -> None:
    anomaly_map = np.zeros((32, 48), np.float32)
    anomaly_map[[4, 5, 4], [4, 5, 6]] = 1
    (found,) = outlines(anomaly_map)
    assert len(found) == 12
    assert len(set(found)) == 10  # each of two corners is passed twice


@pytest.mark.parametrize("seed", range(30))
def test_a_polygon_holds_its_pixels_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    anomaly_map = (rng.random((32, 48)) < 0.1 + 0.02 * seed).astype(np.float32)
    for region in find_regions(anomaly_map, 0.5, FRAME):
        found = outline(region, FRAME)
        assert found is not None
        # By the even-odd rule, at the middle of each pixel of the map.
        drawn = np.zeros((32, 48), bool)
        xs, ys = 20 + 4 * (np.arange(48) + 0.5), 10 + 4 * (np.arange(32) + 0.5)
        for (x1, y1), (x2, y2) in zip(found, [*found[1:], found[0]], strict=True):
            assert (x1 == x2) != (y1 == y2)
            if x1 == x2:
                drawn ^= ((ys >= min(y1, y2)) & (ys < max(y1, y2)))[:, None] & (xs > x1)
        wanted = np.zeros((32, 48), bool)
        row, column = region.corner
        height, width = region.cells.shape
        wanted[row : row + height, column : column + width] = ndimage.binary_fill_holes(region.cells)
        np.testing.assert_array_equal(drawn, wanted)


def test_it_stays_within_the_image_and_is_left_out_where_it_is_long() -> None:
    edge = Frame((190, 130), (-2.0, -3.0, -2.0 + 4 * 48, -3.0 + 4 * 34), (34, 48))
    (region,) = find_regions(np.ones((34, 48), np.float32), 0.5, edge)
    assert sorted(outline(region, edge) or []) == [(0.0, 0.0), (0.0, 130.0), (190.0, 0.0), (190.0, 130.0)]
    comb = np.zeros((256, 256), np.float32)
    comb[::2] = comb[:, 0] = 1
    (region,) = find_regions(comb, 0.5, Frame((256, 256), (0.0, 0.0, 256.0, 256.0), (256, 256)))
    assert outline(region, FRAME) is None
    assert LONGEST < 2 * 128 * 256
