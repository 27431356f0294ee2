"""From token distances to map and score: upsampling, blur and the 1 % mean."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from inpformer.methods.inp_former.model import reconstruction_map, zero_shot_map
from inpformer.methods.inp_former.network import Reconstruction
from inpformer.nn.maps import image_scores, product_map, smoothed, spread_scores

SAME, ORTHOGONAL, OPPOSITE = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)


def output(distances: Tensor) -> Reconstruction:
    """A reconstruction whose tokens have these cosine distances [B, G, N]."""
    target = torch.tensor(SAME).expand(*distances.shape, 2)
    cosine = 1 - distances
    decoded = torch.stack([cosine, (1 - cosine**2).clamp(min=0).sqrt()], dim=-1)
    return Reconstruction(target, target.mean(dim=1), torch.tensor([[SAME]]), decoded)


def hot(side: int, row: int, column: int, value: float = 1.0) -> Tensor:
    grid = torch.zeros(side, side)
    grid[row, column] = value
    return grid.flatten()[None, None]


def test_the_score_is_the_mean_of_the_largest_655_of_65536() -> None:
    maps = np.random.default_rng(0).random((3, 256, 256)).astype(np.float32)
    expected = np.sort(maps.reshape(3, -1).astype(np.float64), axis=1)[:, -655:].mean(axis=1)
    np.testing.assert_allclose(image_scores(torch.from_numpy(maps)), expected, rtol=1e-6)


def test_655_hot_pixels_fill_the_score_and_the_656th_adds_nothing() -> None:
    pixels = torch.zeros(2, 65536)
    pixels[0, :655] = 1
    pixels[1, 1000:1656] = 1
    assert image_scores(pixels.view(2, 256, 256)).tolist() == [1.0, 1.0]
    pixels[0, 0] = 0
    assert float(image_scores(pixels.view(2, 256, 256))[0]) == pytest.approx(654 / 655)


def test_rounding_never_lifts_the_score_above_the_map() -> None:
    values = torch.rand(50, generator=torch.Generator().manual_seed(0))
    assert (image_scores(values.view(-1, 1, 1).expand(-1, 256, 256)) <= values).all()


@pytest.mark.parametrize("place", [(100, 30), (0, 0), (255, 128)])
def test_the_blur_is_5_by_5_sigma_4_zero_padded(place: tuple[int, int]) -> None:
    blurred = reconstruction_map(output(hot(256, *place)), 256)[0]
    weight = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 4.0**2))
    kernel = np.outer(weight, weight) / weight.sum() ** 2
    expected = ndimage.convolve(hot(256, *place).view(256, 256).double().numpy(), kernel, mode="constant")
    np.testing.assert_allclose(blurred, expected, atol=1e-6)
    assert int((blurred > 1e-6).sum()) == (expected > 0).sum() <= 25


def test_a_constant_distance_is_constant_but_for_the_padding() -> None:
    anomaly_map = reconstruction_map(output(torch.full((1, 2, 16), 0.5)), 64)[0]
    np.testing.assert_allclose(anomaly_map[2:-2, 2:-2], 0.5, rtol=1e-5)
    inside = 1 / (1 + 2 * (np.exp(-1 / 32) + np.exp(-4 / 32)))  # weight of the middle of five
    three_of_five = inside * (1 + np.exp(-1 / 32) + np.exp(-4 / 32))
    assert float(anomaly_map[0, 0]) == pytest.approx(0.5 * three_of_five**2, rel=1e-5)


@pytest.mark.parametrize(("row", "column"), [(2, 5), (0, 7), (7, 3)])
def test_a_hot_token_peaks_at_its_place(row: int, column: int) -> None:
    anomaly_map = reconstruction_map(output(hot(8, row, column)), 64)[0]
    peak = divmod(int(anomaly_map.argmax()), 256)
    # Corners on corners to 64 pixels, then pixel areas on pixel areas to 256.
    expected = [(token * 63 / 7 + 0.5) * 4 - 0.5 for token in (row, column)]
    assert peak == pytest.approx(expected, abs=4)


def test_the_upsampling_aligns_corners_first_and_areas_second() -> None:
    ramp = torch.arange(8.0).expand(8, 8).flatten()[None, None] / 10
    row = reconstruction_map(output(ramp), 64)[0, 128]
    # Column x of 256 lies at (x + 0.5) / 4 - 0.5 of 64, which is 7/63 of a token each; the blur keeps a ramp.
    columns = np.arange(10, 246)
    np.testing.assert_allclose(row[10:246], ((columns + 0.5) / 4 - 0.5) * 7 / 63 / 10, atol=1e-5)


def test_the_map_is_the_mean_of_the_groups() -> None:
    distances = torch.rand(2, 2, 16, generator=torch.Generator().manual_seed(0))
    both = reconstruction_map(output(distances), 64)
    alone = [reconstruction_map(output(distances[:, g : g + 1]), 64) for g in (0, 1)]
    torch.testing.assert_close(both, (alone[0] + alone[1]) / 2)


def test_the_zero_shot_map_is_the_distance_to_the_nearest_prototype() -> None:
    tokens = torch.tensor([SAME] * 15 + [OPPOSITE])[None]
    near, far = (torch.tensor([[SAME, other]]) for other in (OPPOSITE, ORTHOGONAL))
    assert float(zero_shot_map(tokens, near, 64).abs().max()) < 1e-6
    assert torch.equal(zero_shot_map(tokens, far, 64), reconstruction_map(output(hot(4, 3, 3)), 64))


@pytest.mark.parametrize(("shape", "sigma"), [((40, 30), 3.0), ((5, 9), 4.0), ((1, 3), 1.3)])
def test_smoothing_is_scipys_for_maps_smaller_than_the_kernel_too(shape: tuple[int, int], sigma: float) -> None:
    maps = np.random.default_rng(0).random((2, *shape))
    expected = np.stack([ndimage.gaussian_filter(one, sigma) for one in maps])
    np.testing.assert_allclose(smoothed(torch.from_numpy(maps), sigma), expected, rtol=1e-12)


def test_a_spread_is_the_deviation_of_a_map_and_never_above_its_largest_value() -> None:
    maps = torch.zeros(2, 256, 256)
    maps[0, :64] = 8.0
    maps[1, :64] = -8.0
    assert spread_scores(maps).tolist() == pytest.approx([8 * (0.25 * 0.75) ** 0.5, 0.0])


def test_a_product_map_is_high_where_both_length_and_direction_differ() -> None:
    """Of one cell that is turned by 90°, one that is doubled, and others that are rebuilt."""
    target = torch.zeros(2, 8, 8, 2)
    target[..., 0] = 3.0
    rebuilt = target.clone()
    rebuilt[0, 2, 5] = torch.tensor([0.0, 3.0])
    rebuilt[1, 2, 5] = torch.tensor([6.0, 0.0])
    maps = product_map(target, rebuilt)
    cell = np.zeros((8, 8))
    cell[2, 5] = 1.0
    places = np.arange(256) * 7 / 255
    large = ndimage.map_coordinates(cell, np.meshgrid(places, places, indexing="ij"), order=1)
    smooth = ndimage.gaussian_filter(large, 4.0)
    np.testing.assert_allclose(maps[0], 9 * smooth**2, atol=1e-5)  # the mean of 9 and 9, and a cosine of 0
    assert float(maps[1].abs().max()) < 1e-5
