"""sPRO against brute force over all thresholds and regions, and its replicates against the same."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from inpformer.errors import UserError
from inpformer.metrics.bootstrap import draws
from inpformer.metrics.pixel import AUPRO_FPR_LIMIT, pixel_metrics
from inpformer.metrics.pixel_bootstrap import SproReplicateStream
from inpformer.metrics.pixel_scores import Regions
from inpformer.metrics.settings import BootstrapSettings
from inpformer.metrics.spro import SPRO_FPR_LIMIT, SproStream
from tests.metrics.test_pixel import area_by_definition, sample

Pair = tuple[NDArray[np.float32], Regions]


def pictures(seed: int, *, ties: bool, count: int = 6) -> list[Pair]:
    """Random maps with regions that are scattered, overlap, and are saturated by whole and broken numbers of pixels;
    every third image is good.
    """
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        masks = rng.random((0 if number % 3 == 0 else 3, 9, 11)) < 0.1
        scores = rng.normal(size=(9, 11)) + masks.any(axis=0)
        shares = rng.choice([0.01, 0.3, 0.5, 1.0], len(masks))
        regions = Regions(masks, np.maximum(shares * masks.sum(axis=(1, 2)), 1))
        found.append(((np.round(scores * 2) if ties else scores).astype(np.float32), regions))
    return found


def by_definition(images: Sequence[Pair], limit: float) -> float:
    """One loop over all distinct scores, and in it over all regions."""
    good = np.concatenate([scores[~regions.masks.any(axis=0)] for scores, regions in images])
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([scores.ravel() for scores, _ in images]))[::-1]:
        overlaps = [
            min(np.sum(mask & (scores >= threshold)) / enough, 1.0)
            for scores, regions in images
            for mask, enough in zip(regions.masks, regions.saturation, strict=True)
        ]
        points.append((float(np.mean(good >= threshold)), float(np.mean(overlaps))))
    return area_by_definition(*np.transpose(points), limit)


def spro(
    images: Sequence[Pair], limit: float = SPRO_FPR_LIMIT, memory_pixels: int = 2**24, folder: Path | None = None
) -> float:
    with SproStream(limit, memory_pixels, folder) as stream:
        for image in images:
            stream.add(*image)
        return stream.result()


def replicates(images: Sequence[Pair], settings: BootstrapSettings, groups: Sequence[str]) -> NDArray[np.float64]:
    with SproReplicateStream(settings) as stream:
        for image, group in zip(images, groups, strict=True):
            stream.add(*image, group)
        return stream.result()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("limit", [0.01, 0.05, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_definition(seed: int, limit: float, ties: bool) -> None:
    images = pictures(seed, ties=ties)
    assert spro(images, limit) == pytest.approx(by_definition(images, limit), abs=1e-12)


@pytest.mark.parametrize("memory_pixels", [1, 7, 99, 250])
def test_memory_does_not_change_the_result(memory_pixels: int, tmp_path: Path) -> None:
    images = pictures(3, ties=True)
    assert spro(images, 0.3, memory_pixels, tmp_path) == pytest.approx(by_definition(images, 0.3), abs=1e-12)
    assert list(tmp_path.iterdir()) == []


def test_connected_regions_with_whole_areas_give_aupro() -> None:
    maps, masks = sample(1, ties=True)
    images = []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        labelled, count = ndimage.label(mask, np.ones((3, 3)))
        apart = labelled == np.arange(1, count + 1)[:, None, None]
        images.append((anomaly_map, Regions(apart, apart.sum(axis=(1, 2)).astype(np.float64))))
    assert spro(images, AUPRO_FPR_LIMIT) == pytest.approx(pixel_metrics(maps, masks).aupro, abs=1e-12)


def test_a_region_is_found_when_enough_of_it_is() -> None:
    # Forty good pixels below all others: whatever is found is found at no false alarm.
    scores = np.zeros((1, 50), np.float32)
    mask = np.zeros((1, 1, 50), np.bool_)
    mask[0, 0, :10] = True
    scores[0, :4] = 1
    for enough, wanted in ((4, 1.0), (8, 0.5), (2, 1.0)):
        regions = Regions(mask, np.array([float(enough)]))
        # From 4 pixels at FPR 0 the curve rises to 1 at FPR 1, as the rest ties with the good pixels.
        line = wanted + (1 - wanted) * SPRO_FPR_LIMIT / 2
        assert spro([(scores, regions)]) == pytest.approx(line)


def test_a_region_of_which_nothing_is_left_on_the_map_does_not_count() -> None:
    (scores, regions), *others = pictures(0, ties=False)[1:]
    none = np.zeros((1, *scores.shape), np.bool_)
    more = Regions(np.concatenate([regions.masks, none]), np.append(regions.saturation, 5.0))
    assert spro([(scores, more), *others]) == spro([(scores, regions), *others])


def test_replicates_of_few_distinct_scores_are_exact() -> None:
    images, settings = pictures(4, ties=True, count=12), BootstrapSettings(100, seed=1)
    groups = [f"part {number // 3}" for number in range(12)]
    found = replicates(images, settings, groups)
    drawn = draws(np.array([bool(len(regions.masks)) for _, regions in images]), settings, groups)
    for number in (0, 1, 50, 100):
        again = [image for image, times in zip(images, drawn[number], strict=True) for _ in range(times)]
        assert found[number] == pytest.approx(by_definition(again, SPRO_FPR_LIMIT), abs=1e-12)


def test_binned_values_are_near_the_exact_ones() -> None:
    rng = np.random.default_rng(3)
    images = []
    for number in range(30):
        scores = 10 * ndimage.gaussian_filter(rng.normal(size=(128, 128)), 3)
        masks = np.zeros((number % 3, 128, 128), np.bool_)
        for mask in masks:
            y, x = rng.integers(10, 100, 2)
            mask[y : y + 12, x : x + 20] = True
            scores[y : y + 6, x : x + 8] += 3
        images.append((scores.astype(np.float32), Regions(masks, np.full(len(masks), 60.0))))
    exact = spro(images)
    assert 0.3 < exact < 0.9
    found = replicates(images, BootstrapSettings(100), [""] * 30)
    assert found[0] == pytest.approx(exact, abs=1e-3)
    assert 0.01 < found[1:].std() < 0.1


def test_images_without_meaning_are_refused() -> None:
    good = pictures(0, ties=False)[0]
    with pytest.raises(UserError, match="got 0 regions and 99 normal pixels"):
        spro([good])
    everywhere = Regions(np.ones((1, 9, 11), np.bool_), np.array([5.0]))
    with pytest.raises(UserError, match="got 1 regions and 0 normal pixels"):
        spro([(good[0], everywhere)])
    with pytest.raises(UserError, match="need normal and anomalous pixels in every draw"):
        replicates([good], BootstrapSettings(100), [""])
    with pytest.raises(UserError, match="99 of the 99 scores of a map are NaN"):
        spro([(np.full_like(good[0], np.nan), good[1])])
