"""Levels to tokens of one grid and back, place by place."""

import torch

from inpformer.nn.level_tokens import LevelEmbedding, LevelPrediction, to_grid, to_tokens


def test_a_token_tells_all_places_of_its_patch() -> None:
    predict = LevelPrediction([3], [2], width=12)
    (linear,) = predict.levels
    assert isinstance(linear, torch.nn.Linear)
    linear.weight.data, linear.bias.data = torch.eye(12), torch.zeros(12)
    grid = torch.randn(2, 3, 6, 6)
    tokens = [  # by row in the patch, column and channel
        grid[:, :, row : row + 2, column : column + 2].permute(0, 2, 3, 1).flatten(1)
        for row in range(0, 6, 2)
        for column in range(0, 6, 2)
    ]
    (found,) = predict(torch.stack(tokens, dim=1))
    torch.testing.assert_close(found, grid)
    assert torch.equal(to_grid(to_tokens(grid)), grid)


def test_tokens_of_all_levels_stand_at_the_same_places() -> None:
    torch.manual_seed(0)
    embed = LevelEmbedding([3, 5], [4, 2], width=6)
    levels = [torch.randn(2, 3, 12, 12), torch.randn(2, 5, 6, 6)]
    with torch.no_grad():
        before = embed(levels)
        assert [one.shape for one in before] == [(2, 9, 6)] * 2
        levels[0][:, :, 4:8, 8:12] += 1  # row 1, column 2 of 3 x 3
        levels[1][:, :, 2:4, 4:6] += 1
        for one, other in zip(embed(levels), before, strict=True):
            changed = (one - other).abs().amax(dim=(0, 2)) > 1e-4
            assert changed.nonzero().flatten().tolist() == [5]
