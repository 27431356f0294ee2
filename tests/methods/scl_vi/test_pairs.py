"""The pairs of patches that SCL-VI learns from: where they lie, what is told of them, and what they depend on."""

import pytest
import torch

from inpformer.methods.scl_vi.pairs import (
    OFFSETS,
    Pairs,
    coinciding_corners,
    draw_pairs,
    fewest_pixels,
    picture_seeds,
    puzzle_corners,
)

MANY = 20_000
SIZES = pytest.mark.parametrize("size", [64, 32])


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@SIZES
@pytest.mark.parametrize("room", [0, 1, 66])
def test_all_patches_of_a_puzzle_lie_within_and_reach_the_edges(size: int, room: int) -> None:
    side = fewest_pixels(size) + room
    corners, _ = puzzle_corners(side, size, MANY, drawn())
    assert (int(corners.min()), int(corners.max())) == (0, side - size)


@SIZES
def test_relations_are_told_as_they_lie_and_are_equally_often(size: int) -> None:
    corners, relations = puzzle_corners(256, size, MANY, drawn())
    apart = corners[:, 1] - corners[:, 0]
    expected = torch.tensor(OFFSETS)[relations]
    # Neighbours are 3/4 to 1 of a side apart; of two on one side of the middle each has its own distance.
    near = size // 4 - 1 + size // 32
    low = torch.where(expected == 0, -near, expected.abs() * size * 3 // 4 - size // 32)
    high = torch.where(expected == 0, near, expected.abs() * (size - 1) + size // 32)
    away = torch.where(expected < 0, -apart, apart)
    assert bool(((away >= low) & (away <= high)).all())
    counts = torch.bincount(relations, minlength=12)
    assert len(counts) == 12
    assert int(counts.min()) > MANY / 12 - 5 * (MANY / 12) ** 0.5


@SIZES
def test_the_middle_patch_is_moved_in_its_row_and_column_each_by_itself(size: int) -> None:
    """The reference takes the column's from the row's: then a pair side by side that is one row apart is as much closer
    or farther in its columns.
    """
    corners, relations = puzzle_corners(256, size, 10 * MANY, drawn())
    down, right = (corners[:, 1] - corners[:, 0])[relations == OFFSETS.index((0, 1))].double().unbind(dim=1)
    most = size // 32
    few = down.abs() <= most
    assert set(down[few].tolist()) == set(range(-most, most + 1))
    columns = [float(right[few & (down == row)].mean()) for row in (-most, most)]
    assert columns[0] == pytest.approx(columns[1], abs=most / 2)


@SIZES
def test_pairs_that_nearly_coincide_are_anywhere_and_never_in_the_same_place(size: int) -> None:
    corners = coinciding_corners(200, size, MANY, drawn())
    shift = corners[:, 1] - corners[:, 0]
    most = size // 32
    possible = {(a, b) for a in range(-most, most + 1) for b in range(-most, most + 1)} - {(0, 0)}
    assert {(int(a), int(b)) for a, b in shift.tolist()} == possible
    for patch in corners.unbind(dim=1):
        assert (int(patch.min()), int(patch.max())) == (0, 200 - size)


def pairs_of(picture: torch.Tensor, size: int = 32, count: int = 50, seed: int = 0) -> Pairs:
    (found,) = draw_pairs(picture[None], (size,), count, [seed])
    return found


def test_patches_are_cut_where_they_lie() -> None:
    rows = torch.arange(200.0)[:, None].expand(200, 200)
    picture = torch.stack([rows, rows.T, torch.zeros(200, 200)])
    patches = pairs_of(picture).coinciding
    assert patches.shape == (50, 2, 3, 32, 32)
    row, column, nothing = patches.unbind(dim=2)
    assert bool((row.diff(dim=2) == 1).all() & (row.diff(dim=3) == 0).all())
    assert bool((column.diff(dim=3) == 1).all() & (column.diff(dim=2) == 0).all())
    assert bool((nothing == 0).all())
    apart = torch.stack([row[:, 1] - row[:, 0], column[:, 1] - column[:, 0]])[..., 0, 0].abs()
    assert bool((apart.amax(dim=0) == 1).all())


def test_the_patches_of_a_puzzle_alone_have_noise_of_each_channel_and_each_value() -> None:
    found = pairs_of(torch.zeros(3, 200, 200), count=400)
    assert bool((found.coinciding == 0).all())
    channels = found.puzzle.mean(dim=(3, 4))
    values = found.puzzle - channels[..., None, None]
    assert float(channels.std()) == pytest.approx(0.02, rel=0.1)
    assert float(values.std()) == pytest.approx(0.02, rel=0.01)


def test_what_is_drawn_of_a_picture_follows_from_its_seed_alone() -> None:
    pictures = torch.randint(0, 256, (3, 3, 200, 200), generator=drawn()).float()
    seeds = picture_seeds(pictures)
    together = draw_pairs(pictures, (64, 32), 2, seeds)
    alone = draw_pairs(pictures[2:], (64, 32), 2, picture_seeds(pictures[2:]))
    for whole, part in zip(together, alone, strict=True):
        assert torch.equal(whole.puzzle[4:], part.puzzle)
        assert torch.equal(whole.relations[4:], part.relations)
        assert torch.equal(whole.coinciding[4:], part.coinciding)
    changed = pictures.clone()
    changed[:, 2, 100, 100] = 255 - changed[:, 2, 100, 100]
    assert len({*seeds, *picture_seeds(changed)}) == 6
