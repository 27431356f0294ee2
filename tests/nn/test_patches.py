"""Levels on one grid, patches of it, and back."""

import pytest
import torch
import torch.nn.functional as F

from inpformer.errors import UserError
from inpformer.nn.patches import cells, on_one_grid, patch_errors, patchify, require_patch


def test_a_vector_holds_its_patch_row_by_row_with_the_channels_last() -> None:
    grid = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4).float()
    vectors = patchify(grid, 2)
    assert vectors.shape == (2, 4, 12)
    right_below = grid[1, :, 2:, 2:]  # the last patch
    assert vectors[1, 3].tolist() == [float(right_below[c, r, k]) for r in range(2) for k in range(2) for c in range(3)]
    assert torch.equal(vectors[:, 1], patchify(grid[..., :2, 2:], 2)[:, 0])
    assert torch.equal(cells(vectors, 2), grid.permute(0, 2, 3, 1))


def test_levels_are_side_by_side_on_the_finest_grid() -> None:
    fine, coarse = torch.rand(2, 16, 3), torch.rand(2, 4, 5)
    grid = on_one_grid([coarse, fine], 4)
    assert grid.shape == (2, 8, 4, 4)
    assert torch.equal(grid[:, 5:], fine.transpose(1, 2).unflatten(2, (4, 4)))
    corners = grid[:, :5, ::3, ::3].flatten(2).transpose(1, 2)
    torch.testing.assert_close(corners, coarse)  # which stay in place
    torch.testing.assert_close(grid[:, :5, 0, 1], coarse[:, 0] * 2 / 3 + coarse[:, 1] / 3)


def test_errors_are_means_over_patches_and_over_numbers() -> None:
    target, rebuilt = torch.rand(2, 3, 8), torch.rand(2, 3, 8)
    cosine, squared = patch_errors(target, rebuilt)
    assert float(cosine) == pytest.approx(1 - float(F.cosine_similarity(target, rebuilt, dim=2).mean()), rel=1e-5)
    assert float(squared) == pytest.approx(float((target - rebuilt).square().sum()) / 48, rel=1e-5)


def test_patches_that_do_not_fill_the_grid_are_refused() -> None:
    require_patch(4, 28)
    with pytest.raises(UserError, match=r"^patch is 4: it must be a divisor of 27"):
        require_patch(4, 27)
