"""Pseudo-anomalies: a region, its mask, and nothing else changes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from inpformer.images.pseudo.foreground import foreground, otsu
from inpformer.images.pseudo.paste import pasted
from inpformer.images.pseudo.patch import VISIBLE, Mask, Picture, patched
from inpformer.images.pseudo.perlin import clouds, perlin
from inpformer.images.pseudo.regions import LARGEST, MOST_OF_OBJECT, SMALLEST, region
from inpformer.images.pseudo.textures import KINDS, procedural, recoloured

SHAPE = (90, 120)
EVERYWHERE = np.ones(SHAPE, np.bool_)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def plate(seed: int) -> Picture:
    return rng(seed).normal(128, 12, (*SHAPE, 3)).clip(0, 255).astype(np.uint8)


def disc(row: int = 45, column: int = 60, radius: int = 30) -> Mask:
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return np.asarray((y - row) ** 2 + (x - column) ** 2 < radius**2)


def changes(after: Picture, before: Picture) -> NDArray[np.int_]:
    return np.asarray(np.abs(after.astype(int) - before.astype(int)).max(axis=2))


def test_only_the_region_changes_and_the_mask_says_where() -> None:
    picture = plate(0)
    changed, mask = patched(picture, procedural(SHAPE, rng(1)), EVERYWHERE, rng(5))
    difference = changes(changed, picture)
    assert (changed.shape, changed.dtype, mask.shape) == (picture.shape, np.uint8, SHAPE)
    assert (difference[~mask] == 0).all()
    assert (difference[mask] > 0).mean() > 0.9


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    fill = procedural(SHAPE, rng(1))
    made = [patched(plate(0), fill, EVERYWHERE, rng(seed))[0] for seed in (3, 3, 4)]
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


def test_what_nobody_could_see_is_made_visible() -> None:
    picture = plate(0)
    changed, mask = patched(picture, picture.astype(np.float32), EVERYWHERE, rng(0))
    assert changes(changed, picture)[mask].mean() >= VISIBLE


def test_a_grey_picture_gets_a_grey_defect() -> None:
    picture = np.repeat(plate(0)[..., :1], 3, axis=-1)
    for seed in range(5):
        changed, _ = patched(picture, procedural(SHAPE, rng(seed)), EVERYWHERE, rng(seed))
        assert (changed == changed[..., :1]).all()


def test_regions_are_from_small_to_large_round_to_long() -> None:
    masks = [region(EVERYWHERE, rng(seed)) for seed in range(80)]
    shares = np.array([mask.mean() for mask in masks])
    assert SMALLEST * 0.9 < shares.min() < 2 * SMALLEST
    assert LARGEST / 2 < shares.max() <= LARGEST * 1.02
    assert np.quantile([np.ptp(np.nonzero(mask)[1]) / SHAPE[1] for mask in masks], 0.9) < 0.9


def test_a_region_lies_on_the_object_and_leaves_half_of_it() -> None:
    small = disc(radius=5)
    for seed in range(30):
        mask = region(small, rng(seed))
        assert mask.any()
        assert not (mask & ~small).any()
        assert mask.sum() <= MOST_OF_OBJECT * small.sum() + 1


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_procedural_textures_fill_a_picture_and_differ(kind: int) -> None:
    made = [KINDS[kind](SHAPE, rng(seed)) for seed in range(3)]
    for level in made:
        assert level.shape == SHAPE
        assert 0 <= level.min() < level.max() <= 1
    assert (made[0] != made[1]).any()


def test_a_recoloured_texture_has_the_size_asked_for() -> None:
    fill = recoloured(plate(0), (64, 50), rng(0))
    assert fill.shape == (64, 50, 3)
    assert 0 <= fill.min() <= fill.max() <= 255


@pytest.mark.parametrize("cells", [1, 4, 16])
def test_perlin_noise_is_smooth_and_zero_at_the_corners_of_its_cells(cells: int) -> None:
    noise = perlin((64, 96), cells, rng(0))
    assert np.abs(noise).max() <= 1.01
    assert noise.std() > 0.1
    assert np.abs(noise[:: 64 // cells, :: 96 // cells]).max() < 1e-4
    assert np.abs(np.diff(noise, axis=0)).max() < 4 * cells / 64


def test_clouds_add_detail_octave_by_octave() -> None:
    one, three = (np.abs(np.diff(clouds((64, 64), 2, octaves, rng(0)), axis=1)).mean() for octaves in (1, 3))
    assert three > 1.5 * one


def on_background(object_: Mask, background: float = 60.0, colour: float = 170.0) -> Picture:
    noise = rng(0).normal(0, 5, (*SHAPE, 3))
    return (np.where(object_[..., None], colour, background) + noise).clip(0, 255).astype(np.uint8)


def test_an_object_before_an_even_background_is_found() -> None:
    wanted = disc()
    holed = wanted & ~disc(radius=8)  # a hole shows the background, and belongs to the object
    found = foreground(on_background(holed))
    assert (found & wanted).sum() / (found | wanted).sum() > 0.9


@pytest.mark.parametrize(
    "picture",
    [plate(0), on_background(disc(radius=4)), on_background(disc(row=0)), np.full((*SHAPE, 3), 9, np.uint8)],
    ids=["a texture", "a speck", "cut off by the edge", "one colour"],
)
def test_without_such_an_object_everything_is_foreground(picture: Picture) -> None:
    assert foreground(picture).all()


def test_otsu_divides_two_classes() -> None:
    values = np.concatenate([np.full(30, 1.0), np.full(10, 5.0)]).astype(np.float32)
    bound, explained = otsu(values)
    assert 1 <= bound < 5
    assert explained == pytest.approx(1)
    assert otsu(np.ones(5, np.float32))[1] == 0


def test_a_real_defect_is_pasted_onto_the_object_with_its_mask() -> None:
    defect = disc(20, 30, 6)
    defective = np.where(defect[..., None], np.uint8(250), plate(1)).astype(np.uint8)
    inside = disc(45, 80, 35)
    for seed in range(20):
        picture = plate(0)
        changed, mask = pasted(picture, defective, defect, inside, rng(seed))
        assert 0.3 * defect.sum() < mask.sum() < 2.5 * defect.sum()
        assert (mask & inside).sum() >= 0.8 * mask.sum()
        assert changed[mask].mean() > picture[mask].mean() + 50
        far = changes(changed, picture)[~mask] > 0
        assert far.sum() < 2 * mask.sum()  # only a margin, in which it fades
    again = pasted(plate(0), defective, defect, inside, rng(19))
    np.testing.assert_array_equal(again[0], changed)


@pytest.mark.parametrize("defect", [disc(45, 60, 1), EVERYWHERE], ids=["a pixel", "all of the picture"])
def test_defects_of_any_size_fit(defect: Mask) -> None:
    for seed in range(10):
        changed, mask = pasted(plate(0), plate(1), defect, EVERYWHERE, rng(seed))
        assert changed.shape == (*SHAPE, 3)
        assert mask.any()
