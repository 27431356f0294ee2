"""Registration of two pictures: one place in another light or shifted, and places that only share stripes and teeth."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.gate.near import likeness_of, machined
from pipelines.gate.look import look_at_picture
from pipelines.gate.registration import AGREE, PAIRS, SIDE, agreement, phases

Scene = NDArray[np.float64]


def surface(seed: int) -> Scene:
    """A surface [96, 160] with grain of its own, about .5."""
    grain = np.random.default_rng(seed).normal(size=(96, 160))
    return 0.5 + 0.1 * sum(ndimage.gaussian_filter(grain, s) * s for s in (1.0, 2.0))


def seen(scene: Scene, left: int = 0, top: int = 0) -> NDArray[np.float32]:
    """A picture [SIDE, SIDE] of it, with noise of its own."""
    noise = np.random.default_rng([left, top]).normal(0, 0.01, (SIDE, SIDE))
    return np.asarray(255 * np.clip(scene[top : top + SIDE, left : left + SIDE] + noise, 0, 1), np.float32)


def agree(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(agreement(phases(one)[None], phases(other)[None])[0])


SLOPE = np.linspace(0.6, 1.4, SIDE)


@pytest.mark.parametrize(
    "light",
    [
        lambda p: p,
        lambda p: 0.5 * p + 20,
        lambda p: 255 * (p / 255) ** 2,
        lambda p: p * SLOPE * SLOPE[:, None],
    ],
)
def test_one_place_agrees_in_any_light_and_at_any_small_shift(light: Callable[[Scene], Scene]) -> None:
    scene = surface(0)
    for left, top in ((0, 0), (3, 0), (0, 5), (8, 7)):
        assert agree(seen(scene), np.asarray(light(seen(scene, left, top)), np.float32)) > AGREE + 0.1


def test_neighbouring_places_do_not_though_they_share_grooves_and_teeth() -> None:
    down, along = np.mgrid[0:96, 0:160]
    grooves = ndimage.gaussian_filter1d(np.random.default_rng(5).normal(size=96), 1.5)[:, None]
    for shared in (0.4 * grooves, 0.2 * np.sin(2 * np.pi * along / 16), 0.3 * np.sin(2 * np.pi * (along + down) / 24)):
        scene = surface(1) + shared
        assert agree(seen(scene), seen(scene, 96)) < AGREE - 0.05
        assert agree(seen(scene), seen(scene, 4, 2)) > AGREE + 0.1


def test_pictures_that_share_nothing_agree_by_chance_only() -> None:
    found = [agree(seen(surface(n)), seen(surface(n + 50))) for n in range(20)]
    assert 0.05 < np.mean(found) < 0.2
    assert max(found) < AGREE - 0.1


def test_a_picture_agrees_with_itself_and_with_nothing_when_it_is_blank() -> None:
    picture = seen(surface(2))
    assert agree(picture, picture) == pytest.approx(1, abs=1e-5)
    blank = np.full((SIDE, SIDE), 80, np.float32)
    assert np.isfinite(agree(blank, picture))
    assert agree(blank, picture) < AGREE


def test_many_pairs_are_compared_as_each_alone() -> None:
    several = np.stack([phases(seen(surface(n % 7), n % 5)) for n in range(PAIRS + 9)])
    others = np.roll(several, 7, 0)
    together = agreement(several, others)
    alone = [agreement(a[None], b[None])[0] for a, b in zip(several, others, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert len(agreement(several[:0], others[:0])) == 0


def test_a_series_of_places_is_not_one_part_but_its_exposures_are() -> None:
    """The cosine alone takes neighbouring places of one object for one part."""
    shown = [(number, place, look_at_picture(picture)) for number in range(60) for place, picture in machined(number)]
    number, place = (np.array([one[n] for one in shown]) for n in (0, 1))
    _, alike, linked = likeness_of([look for *_, look in shown])
    one, here = number[:, None] == number, place[:, None] == place
    assert (alike & one & ~here).sum() >= 5
    assert not (linked & ~(one & here)).any()
    assert (linked & one & here).sum() >= 0.98 * 60 * 3
