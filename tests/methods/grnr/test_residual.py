"""The residual of a texture's features: the paper's formula, its support, and what must not change it."""

import numpy as np
import pytest
import torch
from torch import Tensor

from inpformer.methods.grnr import residual
from inpformer.methods.grnr.residual import common, pooled, scores
from tests.methods.grnr import brute


def texture(side: int, channels: int, seed: int = 0) -> Tensor:
    """Features [N, C] of a made-up texture: neighbours are alike."""
    rng = torch.Generator().manual_seed(seed)
    return pooled(2 + torch.randn(side**2, channels, generator=rng))


def on_grid(tokens: Tensor) -> np.ndarray:
    side = round(len(tokens) ** 0.5)
    return tokens.double().numpy().reshape(side, side, -1)


@pytest.mark.parametrize(("side", "channels"), [(3, 20), (6, 16), (9, 40)])
@pytest.mark.parametrize(("neighbours", "weight"), [(9, 5.0), (4, 0.1), (1, 0.0)])
def test_a_score_is_the_papers(side: int, channels: int, neighbours: int, weight: float) -> None:
    tokens = texture(side, channels)
    expected = brute.scores(on_grid(tokens), neighbours, weight, brute.within(side)).ravel()
    # The ridge is no more than noise: neighbours are nearly equal here, and it is a millionth of S Sᵀ.
    np.testing.assert_allclose(scores(tokens, neighbours, weight), expected, rtol=1e-2)


def test_without_the_ridge_it_is_the_papers_to_the_last_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residual.unexplained, "__defaults__", (0.0,))
    tokens = texture(7, 24)
    expected = brute.scores(on_grid(tokens), 12, 5.0, brute.within(7)).ravel()
    np.testing.assert_allclose(scores(tokens, 12, 5.0), expected, rtol=1e-6)


@pytest.mark.parametrize("at_a_time", [7, 1024])
@pytest.mark.parametrize("count", [1, 12, 64])
def test_the_support_is_what_is_nearest_to_all_others(
    count: int, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residual, "AT_A_TIME", at_a_time)
    tokens = torch.randn(64, 5, generator=torch.Generator().manual_seed(3))
    assert common(tokens, count).tolist() == brute.support(tokens.double().numpy(), count)


def test_an_odd_feature_is_not_in_the_support() -> None:
    tokens = texture(8, 6)
    tokens[20] += 9
    assert 20 not in common(tokens, 60)
    assert scores(tokens, 60, 5.0).argmax() == 20


def test_pooling_counts_zeros_beyond_the_grid() -> None:
    tokens = torch.randn(25, 4, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(pooled(tokens).view(5, 5, 4), brute.mean_of_nine(on_grid(tokens)), atol=1e-6)


def test_units_and_the_order_and_direction_of_channels_do_not_matter() -> None:
    tokens = texture(8, 12)
    before = scores(tokens, 20, 5.0)
    torch.testing.assert_close(scores(1000 * tokens, 20, 5.0), 1000 * before, rtol=1e-5, atol=0)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1)).double()).Q
    torch.testing.assert_close(scores((tokens.double() @ turn).float(), 20, 5.0), before, rtol=1e-3, atol=0)


def test_a_turned_or_mirrored_picture_has_the_same_scores_turned_or_mirrored() -> None:
    tokens = texture(8, 12)
    grid, before = tokens.view(8, 8, 12), scores(tokens, 20, 5.0).view(8, 8)
    for changed, expected in ((grid.rot90(), before.rot90()), (grid.flip(0), before.flip(0)), (grid.mT.mT, before)):
        found = scores(changed.reshape(64, 12), 20, 5.0).view(8, 8)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_picture_of_one_colour_has_no_residual(value: float) -> None:
    found = scores(torch.full((36, 10), value), 10, 5.0)
    assert torch.isfinite(found).all()
    assert found.max() <= 1e-5 * value * 10**0.5  # of the feature's length: what the ridge leaves


def test_a_feature_that_is_no_number_makes_a_score_that_is_none() -> None:
    tokens = texture(6, 10)
    tokens[14] = float("nan")
    assert scores(tokens, 10, 5.0).isnan().any()
