"""The projection of channels, by what it promises about the tokens that it was fitted to."""

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from inpformer.errors import UserError
from inpformer.nn.projection import Projection


def features() -> Tensor:
    """200 images of 9 tokens: 12 correlated channels of very different scale, far from zero."""
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(200, 1, 9, 12, generator=generator)
    return sources @ torch.randn(12, 12, generator=generator) * 10 ** torch.linspace(-2, 2, 12) + 5


def fitted(batches: Iterable[Tensor], channels: int) -> Projection:
    projection = Projection(12, channels)
    projection.fit(batches)
    return projection


def varying(projected: Tensor) -> Tensor:
    """The channels that depend on the image: a projection may add one that does not."""
    tokens = projected.flatten(0, 2).double()
    return tokens[:, tokens.std(dim=0) > 1e-3]


@pytest.mark.parametrize("channels", [12, 5, 2])
def test_projected_tokens_are_centred_and_uncorrelated(channels: int) -> None:
    projected = fitted([features()], channels)(features())
    assert projected.shape == (200, 1, 9, channels)
    tokens = varying(projected)
    assert tokens.shape[1] >= channels - 1
    assert tokens.mean(dim=0).abs().max() < 1e-3
    covariance = tokens.T @ tokens / len(tokens)
    diagonal = covariance.diagonal()
    correlation = covariance / torch.outer(diagonal, diagonal).sqrt()
    torch.testing.assert_close(correlation, torch.eye(tokens.shape[1], dtype=torch.float64), rtol=0, atol=1e-3)


def test_fewer_channels_are_the_first_of_more() -> None:
    many, few = (varying(fitted([features()], n)(features())) for n in (12, 4))
    torch.testing.assert_close(few, many[:, : few.shape[1]], rtol=1e-5, atol=1e-5)
    assert (many.var(dim=0).diff() <= 1e-6).all()


def test_how_the_tokens_are_batched_does_not_matter() -> None:
    whole = fitted([features()], 5)(features())
    split = fitted(features().split(7), 5)(features())
    torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-4)


def test_a_refit_is_identical() -> None:
    one, other = (fitted([features()], 5).state_dict() for _ in range(2))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_state_is_all_there_is() -> None:
    made, loaded = fitted([features()], 5), Projection(12, 5)
    loaded.load_state_dict(made.state_dict())
    assert torch.equal(loaded(features()), made(features()))
    assert not any(p.requires_grad for p in made.parameters())


def test_half_precision_features_are_projected_in_float32() -> None:
    made = fitted([features().half()], 5)
    projected = made(features().half())
    assert projected.dtype == torch.float32
    torch.testing.assert_close(projected, made(features().half().float()))


def test_a_channel_that_never_changes_does_no_harm() -> None:
    dead = features()
    dead[..., 3] = 7.0
    assert torch.isfinite(fitted([dead], 12)(dead)).all()


@pytest.mark.parametrize("channels", [13, 0])
def test_more_channels_than_there_are_or_none_is_refused(channels: int) -> None:
    with pytest.raises(UserError, match=f"channels is {channels}: it must be between 2 and"):
        fitted([features()], channels)


def test_nothing_to_fit_to_is_refused() -> None:
    with pytest.raises(UserError, match=r"no training features .*add training images"):
        fitted([], 5)
