"""The intervals cover what they should, agree with the exact metrics, and don't depend on how they are computed."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import norm

from inpformer.errors import UserError
from inpformer.metrics.bootstrap import Interval, image_replicates, intervals, mean_replicates
from inpformer.metrics.image import image_metrics
from inpformer.metrics.pixel import pixel_metrics
from inpformer.metrics.pixel_bootstrap import PixelReplicateStream
from inpformer.metrics.settings import BootstrapSettings

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]


def image_sample(rng: np.random.Generator, normal: int, anomalous: int) -> tuple[NDArray[np.float64], Mask]:
    labels = np.arange(normal + anomalous) < anomalous
    return rng.normal(size=labels.size) + 1.2 * labels, labels


def pixel_sample(rng: np.random.Generator, images: int, size: int = 8) -> tuple[Map, Mask]:
    """Images differ as wholes, and a defect shows in some more than in others; every second one has one."""
    maps = rng.normal(size=(images, size, size)) + 0.7 * rng.normal(size=(images, 1, 1))
    masks = np.zeros(maps.shape, np.bool_)
    masks[::2, : size // 2, : size // 2] = True
    maps += masks * rng.normal(1.5, 1, (images, 1, 1))
    return np.round(maps, 1).astype(np.float32), masks  # few distinct scores, few bins: quick


def image_intervals(
    scores: np.ndarray, labels: np.ndarray, settings: BootstrapSettings, groups: list[str] | None = None
) -> dict[str, Interval]:
    return intervals(image_replicates(scores, labels, settings, groups), settings)


def fill(stream: PixelReplicateStream, maps: Map, masks: Mask) -> None:
    for anomaly_map, mask in zip(maps, masks, strict=True):
        stream.add(anomaly_map, mask)


def pixel_intervals(maps: Map, masks: Mask, settings: BootstrapSettings) -> dict[str, tuple[float, float]]:
    with PixelReplicateStream(settings) as stream:
        fill(stream, maps, masks)
        return intervals(stream.result(), settings)


def pixel_replicates(maps: Map, masks: Mask, settings: BootstrapSettings) -> dict[str, NDArray[np.float64]]:
    with PixelReplicateStream(settings) as stream:
        fill(stream, maps, masks)
        return {name.removeprefix("pixel_"): values for name, values in stream.result().items()}


def draws(settings: BootstrapSettings, *classes: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The images of each replicate, drawn as the seed says: first all replicates of the one class, then the other's."""
    rng = np.random.default_rng(settings.seed)
    by_class = [
        [members[rng.integers(members.size, size=members.size)] for _ in range(settings.replicates)]
        for members in classes
    ]
    return [np.concatenate(parts) for parts in zip(*by_class, strict=True)]


def test_image_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    huge = image_metrics(*image_sample(rng, 600_000, 400_000))
    truth = {f"image_{name}": value for name, value in asdict(huge).items()}
    assert truth["image_auroc"] == pytest.approx(norm.cdf(1.2 / np.sqrt(2)), abs=2e-3)
    covered = dict.fromkeys(truth, 0)
    for repetition in range(300):
        scores, labels = image_sample(rng, 120, 80)
        for name, (low, high) in image_intervals(scores, labels, BootstrapSettings(200, seed=repetition)).items():
            covered[name] += low <= truth[name] <= high
    # Three standard errors of 300 repetitions are 3.8 %. F1max flatters: its own docstring says about 90 %.
    assert 274 <= covered["image_auroc"] <= 295
    assert 270 <= covered["image_ap"] <= 295
    assert 255 <= covered["image_f1max"] <= 290


def test_pixel_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    huge = asdict(pixel_metrics(*pixel_sample(rng, 40_000)))
    truth = {name if name == "aupro" else f"pixel_{name}": value for name, value in huge.items()}
    covered = dict.fromkeys(truth, 0)
    for repetition in range(150):
        maps, masks = pixel_sample(rng, 100)
        for name, (low, high) in pixel_intervals(maps, masks, BootstrapSettings(100, seed=repetition)).items():
            covered[name] += low <= truth[name] <= high
    # Three standard errors of 150 repetitions are 5.3 %.
    assert all(133 <= count <= 149 for count in covered.values()), covered


def test_narrower_with_more_images_and_with_less_confidence() -> None:
    rng = np.random.default_rng(1)
    scores, labels = image_sample(rng, 2000, 800)

    def width(step: int, settings: BootstrapSettings) -> float:
        low, high = image_intervals(scores[::step], labels[::step], settings)["image_auroc"]
        return high - low

    assert width(1, BootstrapSettings()) == pytest.approx(width(9, BootstrapSettings()) / 3, rel=0.2)
    ratio = norm.ppf(0.75) / norm.ppf(0.975)
    assert width(1, BootstrapSettings(confidence=0.5)) == pytest.approx(width(1, BootstrapSettings()) * ratio, rel=0.1)


@pytest.mark.parametrize("ties", [False, True])
def test_each_replicate_of_images_is_rated_exactly(ties: bool) -> None:
    scores, labels = image_sample(np.random.default_rng(2), 30, 20)
    scores = np.round(scores) if ties else scores
    settings = BootstrapSettings(200, seed=5)
    drawn = draws(settings, np.flatnonzero(labels), np.flatnonzero(~labels))
    replicates = np.array([image_metrics(scores[d], labels[d]).ap for d in drawn])
    value = image_metrics(scores, labels).ap
    bias = norm.ppf(np.mean(replicates < value) + np.mean(replicates == value) / 2)
    expected = np.quantile(replicates, norm.cdf([2 * bias - norm.ppf(0.975), 2 * bias + norm.ppf(0.975)]))
    assert image_intervals(scores, labels, settings)["image_ap"] == pytest.approx(tuple(expected), abs=1e-9)


@pytest.mark.parametrize("anomalous_first", [False, True])
def test_binned_values_are_near_the_exact_ones(anomalous_first: bool) -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(30, 128, 128))
    maps = np.stack([ndimage.gaussian_filter(n, 3) for n in noise]).astype(np.float32) * 10
    masks = np.zeros(maps.shape, np.bool_)
    for i in range(10):
        y, x = rng.integers(10, 100, 2)
        masks[i, y : y + 8, x : x + 20] = True
    maps[masks] += 3
    if not anomalous_first:
        maps, masks = maps[::-1], masks[::-1]
    exact = asdict(pixel_metrics(maps, masks))
    replicates = pixel_replicates(maps, masks, BootstrapSettings(100))
    binned = {name: values[0] for name, values in replicates.items()}
    assert 0.2 < exact["ap"] < 0.9
    assert binned == pytest.approx(exact, abs=1e-3)


def test_replicates_of_few_distinct_scores_are_exact() -> None:
    maps, masks = pixel_sample(np.random.default_rng(4), 12)
    maps = np.round(maps * 2)
    settings = BootstrapSettings(100, seed=1)
    images = [np.arange(12), *draws(settings, np.arange(0, 12, 2), np.arange(1, 12, 2))]
    replicates = pixel_replicates(maps, masks, settings)
    for number in (0, 1, 50, 100):
        exact = asdict(pixel_metrics(maps[images[number]], masks[images[number]]))
        assert {n: v[number] for n, v in replicates.items()} == pytest.approx(exact, abs=1e-12)


def test_the_seed_decides() -> None:
    scores, labels = image_sample(np.random.default_rng(6), 40, 40)
    maps, masks = pixel_sample(np.random.default_rng(6), 20)
    one, other = BootstrapSettings(100, seed=1), BootstrapSettings(100, seed=2)
    assert image_intervals(scores, labels, one) == image_intervals(scores, labels, one)
    assert image_intervals(scores, labels, one) != image_intervals(scores, labels, other)
    assert pixel_intervals(maps, masks, one) == pixel_intervals(maps, masks, one)
    assert pixel_intervals(maps, masks, one) != pixel_intervals(maps, masks, other)


def test_perfect_scores_leave_no_doubt() -> None:
    labels = np.arange(20) < 8
    assert image_intervals(labels * 1.0, labels, BootstrapSettings(100))["image_auroc"] == (1, 1)
    _, masks = pixel_sample(np.random.default_rng(0), 10)
    assert pixel_intervals(masks.astype(np.float32), masks, BootstrapSettings(100))["pixel_ap"] == (1, 1)


def test_nothing_is_left_on_disk(tmp_path: Path) -> None:
    maps, masks = pixel_sample(np.random.default_rng(0), 4)
    with PixelReplicateStream(BootstrapSettings(100), tmp_path) as stream:
        fill(stream, maps, masks)
        stream.result()
        assert list(tmp_path.iterdir()) == []


def test_what_has_no_interval_is_refused() -> None:
    settings = BootstrapSettings(100)
    maps, masks = pixel_sample(np.random.default_rng(0), 4)
    for everywhere in (False, True):
        with pytest.raises(UserError, match="need normal and anomalous pixels in every draw"):
            pixel_intervals(maps, np.full(masks.shape, everywhere), settings)
    with PixelReplicateStream(settings) as empty, pytest.raises(UserError, match="need normal and anomalous"):
        empty.result()
    with pytest.raises(UserError, match="NaN or infinite"):
        pixel_intervals(np.full_like(maps, np.nan), masks, settings)
    with pytest.raises(UserError, match="Confidence intervals need both normal and anomalous images"):
        image_intervals(np.arange(4.0), np.ones(4, np.bool_), settings)


def test_settings_without_meaning_are_refused() -> None:
    with pytest.raises(UserError, match="replicates is 5"):
        BootstrapSettings(replicates=5)
    with pytest.raises(UserError, match="confidence is 95"):
        BootstrapSettings(confidence=95)
    with pytest.raises(UserError, match="seed is -1"):
        BootstrapSettings(seed=-1)


def test_views_of_a_part_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    parts, views, covered, alone = 40, 5, 0, 0
    labels = np.repeat(np.arange(parts) % 2, views)
    groups = [f"part {n // views}" for n in range(parts * views)]
    for repetition in range(100):
        of_part = rng.normal(0, 1, parts) + np.arange(parts) % 2
        scores = np.repeat(of_part, views) + rng.normal(0, 0.1, parts * views)
        settings = BootstrapSettings(200, seed=repetition)
        truth = 0.76  # of two normal distributions one standard deviation apart
        for given, count in ((groups, True), (None, False)):
            low, high = image_intervals(scores, labels, settings, given)["image_auroc"]
            covered += count and low <= truth <= high
            alone += (not count) and low <= truth <= high
    assert covered >= 87
    assert alone < 75  # what the views would promise if they were taken for parts


def test_the_interval_of_a_mean_is_over_its_own_images() -> None:
    values = np.array([1.0, 0.0, 1.0, 0.0] * 25 + [np.nan] * 50)
    labels = np.array([False] * 100 + [True] * 50)
    found = mean_replicates(values, labels, BootstrapSettings(1000))
    assert found[0] == 0.5
    assert found[1:].std() == pytest.approx(0.05, rel=0.1)
