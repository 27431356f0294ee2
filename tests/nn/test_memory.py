"""The distance to a memory of normal tokens, against a direct evaluation."""

import pytest
import torch

from inpformer.nn import memory
from inpformer.nn.memory import distances, nearest


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_distance_is_the_mean_to_the_nearest_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "TOKENS_AT_A_TIME", 5)
    tokens, normal = noise(2, 6, 4), noise(50, 4, seed=1)
    direct = (tokens[:, :, None] - normal).norm(dim=3).sort(dim=2).values
    for neighbours in (1, 3):
        expected = direct[..., :neighbours].mean(dim=2)
        torch.testing.assert_close(distances(tokens, normal, neighbours), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("at_a_time", [3, 49, 50])
def test_the_nearest_are_those_of_the_whole_memory_however_it_is_searched(
    monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(memory, "MEMORY_AT_A_TIME", at_a_time)
    tokens, normal = noise(2, 6, 4), noise(50, 4, seed=1)
    direct = (tokens[:, :, None] - normal).norm(dim=3).sort(dim=2).values
    torch.testing.assert_close(nearest(tokens, normal, 5), direct[..., :5])


def test_a_token_is_at_no_distance_of_itself_however_long_it_is() -> None:
    normal = 1000 + noise(50, 4)
    assert nearest(normal[None], normal, 2)[0, :, 0].tolist() == [0] * 50


def test_of_a_memory_smaller_than_the_neighbours_all_count() -> None:
    tokens, normal = noise(1, 6, 4), noise(3, 4, seed=1)
    torch.testing.assert_close(distances(tokens, normal, 9), torch.cdist(tokens, normal).mean(dim=2))
