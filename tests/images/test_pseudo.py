"""Pseudo-anomalies: a region, its mask, and nothing else changes."""

import numpy as np
import pytest
from PIL import Image

from inpformer.images.pseudo import LARGEST, SMALLEST, perlin, pseudo_anomaly


def plate(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    noise = np.random.default_rng(seed).normal(128, 12, (size[1], size[0], 3))
    return Image.fromarray(noise.clip(0, 255).astype(np.uint8))


def test_only_the_region_changes_and_the_mask_says_where() -> None:
    image = plate(0)
    changed, mask = pseudo_anomaly(image, plate(1), np.random.default_rng(5))
    difference = np.abs(np.asarray(changed, int) - np.asarray(image, int)).max(axis=2)
    assert changed.size == image.size
    assert mask.shape == (90, 120)
    assert (difference[~mask] == 0).all()
    assert (difference[mask] > 0).mean() > 0.9


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    made = [np.asarray(pseudo_anomaly(plate(0), plate(1), np.random.default_rng(seed))[0]) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


def test_regions_are_from_small_to_large_and_in_one_neighbourhood() -> None:
    masks = [pseudo_anomaly(plate(0), plate(1), np.random.default_rng(seed))[1] for seed in range(60)]
    shares = np.array([mask.mean() for mask in masks])
    assert SMALLEST * 0.5 < shares.min() < 3 * SMALLEST
    assert LARGEST / 3 < shares.max() <= LARGEST * 1.1
    widths = [np.ptp(np.nonzero(mask)[1]) / 120 for mask in masks]
    assert max(widths) < 0.9


def test_grey_images_and_textures_of_other_sizes_are_taken() -> None:
    changed, mask = pseudo_anomaly(plate(0).convert("L"), plate(1, (33, 210)), np.random.default_rng(0))
    assert (changed.mode, changed.size) == ("RGB", (120, 90))
    assert mask.any()


@pytest.mark.parametrize("cells", [1, 4, 16])
def test_perlin_noise_is_smooth_and_zero_at_the_corners_of_its_cells(cells: int) -> None:
    noise = perlin((64, 96), cells, np.random.default_rng(0))
    assert np.abs(noise).max() <= 1.01
    assert noise.std() > 0.1
    assert np.abs(noise[:: 64 // cells, :: 96 // cells]).max() < 1e-6
    steps = np.abs(np.diff(noise, axis=0)).max()
    assert steps < 4 * cells / 64
