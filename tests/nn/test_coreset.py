"""A few tokens that stand for many: the sample is uniform, the farthest points are those of the definition."""

import pytest
import torch
from torch import Tensor

from inpformer.nn import coreset
from inpformer.nn.coreset import farthest_points, medoids, sample


def numbered(count: int) -> Tensor:
    """Tokens [count, 3] that hold their own number."""
    return torch.arange(count, dtype=torch.float32)[:, None].expand(count, 3)


def by_definition(tokens: Tensor, count: int) -> Tensor:
    """Greedy k-centre, one by one, from all distances."""
    distances = (tokens[:, None] - tokens[None]).square().sum(dim=2)
    chosen = [int((tokens - tokens.mean(dim=0)).square().sum(dim=1).argmin())]
    while len(chosen) < count:
        nearest = distances[chosen].amin(dim=0)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return tokens[chosen]


def test_the_sample_is_the_same_however_the_tokens_come_in_batches() -> None:
    tokens = numbered(1000)
    expected, _ = sample([tokens], seed=3, most=64)
    for size in (1, 7, 64, 65, 999):
        kept, count = sample(tokens.split(size), seed=3, most=64)
        assert count == 1000
        assert torch.equal(kept, expected)


def test_the_sample_depends_on_the_seed() -> None:
    tokens = numbered(1000)
    assert not torch.equal(sample([tokens], 1, most=64)[0], sample([tokens], 2, most=64)[0])


def test_the_sample_holds_each_token_once_at_most() -> None:
    kept, _ = sample(numbered(500).split(33), seed=0, most=100)
    assert kept.shape == (100, 3)
    assert len(kept[:, 0].unique()) == 100


def test_every_place_of_the_stream_is_sampled_alike() -> None:
    # 200 samples of 50 of 500: each tenth of the stream is due 1000 of 10 000, with a standard deviation below 30.
    tenths = torch.zeros(10)
    for seed in range(200):
        kept, _ = sample(numbered(500).split(47), seed, most=50)
        tenths += torch.bincount(kept[:, 0].long() // 50, minlength=10)
    assert tenths.sum() == 10_000
    assert (tenths - 1000).abs().max() < 5 * 30


def test_fewer_tokens_than_asked_for_are_all_kept() -> None:
    tokens = numbered(20)
    kept, count = sample(tokens.split(6), seed=0, most=64)
    assert count == 20
    assert torch.equal(kept, tokens)


@pytest.mark.parametrize("few", [4, 32, 1024])
def test_farthest_points_are_those_of_the_definition(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(coreset, "FEW", few)
    monkeypatch.setattr(coreset, "CHOSEN_AT_A_TIME", 5)
    # In 64 bit, where rounding decides nothing.
    tokens = torch.randn(300, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(farthest_points(tokens, 120), by_definition(tokens, 120))


def test_tokens_far_from_the_origin_are_told_apart() -> None:
    # A square's corners and centre, 1000 away: their squared lengths differ by less than 32 bit can hold.
    square = torch.tensor([[1.0, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0], [0, 0, 0], [0.1, 0, 0]]) + 1000
    chosen = farthest_points(square, 5)
    assert torch.equal(chosen[0], square[4])
    assert {tuple(row) for row in chosen.tolist()} == {tuple(row) for row in square[:5].tolist()}


def test_none_is_chosen_twice_among_equal_tokens() -> None:
    tokens = torch.cat([torch.zeros(50, 2), torch.ones(3, 2)])
    assert int(farthest_points(tokens, 52).sum()) in (4, 6)


def test_all_tokens_are_the_farthest_of_so_many() -> None:
    tokens = torch.randn(10, 4)
    assert torch.equal(farthest_points(tokens, 10), tokens)
    assert torch.equal(farthest_points(tokens, 99), tokens)


def test_medoids_are_in_the_middle_of_their_own() -> None:
    generator = torch.Generator().manual_seed(0)
    middles = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    tokens = middles.repeat_interleave(30, dim=0) + torch.randn(90, 2, generator=generator)
    found = medoids(tokens, 3)
    for middle in middles:
        distance = (tokens - middle).norm(dim=1)
        assert int(((found - middle).norm(dim=1) < distance.sort().values[10]).sum()) == 1
    assert len(medoids(tokens, 90).unique(dim=0)) == 90
    assert medoids(torch.ones(4, 2), 2).tolist() == [[1.0, 1.0]] * 2  # all alike
