"""How a patch is scored by its neighbours' distances, and a pixel by the patches that cover it."""

import math

import pytest
import torch

from inpformer.methods.scl_vi.affinity import affinity, spread_out


def test_of_one_neighbour_it_is_the_distance_and_of_equal_ones_too() -> None:
    assert affinity(torch.tensor([[3.0], [0.5]])).tolist() == [3.0, 0.5]
    assert affinity(torch.full((2, 7), 0.4)).tolist() == pytest.approx([0.4, 0.4])


def test_nearer_neighbours_weigh_more() -> None:
    distances = [1.0, 2.0, 5.0]
    weights = [math.exp(8 / one) for one in distances]
    expected = sum(w * d for w, d in zip(weights, distances, strict=True)) / sum(weights)
    assert float(affinity(torch.tensor(distances))) == pytest.approx(expected)


def test_a_neighbour_far_nearer_than_the_others_weighs_as_one_of_fifteen() -> None:
    for nearest in (0.01, 1e-5):
        total = nearest + 1
        weights = [math.exp(15), math.exp(total / 1)]
        expected = (weights[0] * nearest + weights[1]) / sum(weights)
        assert float(affinity(torch.tensor([nearest, 1.0]))) == pytest.approx(expected, rel=1e-5)


def test_a_patch_that_is_among_the_normal_ones_scores_nothing() -> None:
    """The reference weighs it least: the score was 1 here, as of a defect."""
    assert affinity(torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("size", "stride", "side"), [(4, 2, 12), (4, 4, 12), (3, 1, 7), (6, 2, 6)])
def test_a_pixel_is_the_mean_of_the_patches_that_cover_it(size: int, stride: int, side: int) -> None:
    count = (side - size) // stride + 1
    scores = torch.rand(2, count, count, generator=torch.Generator().manual_seed(0))
    total, covering = torch.zeros(2, side, side), torch.zeros(side, side)
    for row in range(count):
        for column in range(count):
            rows, columns = (slice(stride * at, stride * at + size) for at in (row, column))
            total[:, rows, columns] += scores[:, row, column, None, None]
            covering[rows, columns] += 1
    torch.testing.assert_close(spread_out(scores, size, stride, side), total / covering)
