"""Which places are hidden: those far from their cluster, and in training any share of them."""

import pytest
import torch

from inpformer.methods.ami_net.masks import at_random, distances, unlike
from inpformer.nn.draws import Draws

CPU = torch.device("cpu")


def test_a_distance_is_a_length_times_a_turn() -> None:
    tokens, centres = torch.tensor([[[3.0, 0.0], [0.0, 0.0]]]), torch.tensor([[[0.0, 4.0], [1.0, 0.0], [-1.0, 0.0]]])
    # 5 at a right angle; 2 in the same direction; 4 in the opposite one; a token of zeros has no direction.
    torch.testing.assert_close(distances(tokens, centres), torch.tensor([[[5.0, 0.0, 8.0], [4.0, 1.0, 1.0]]]))


def test_in_each_cluster_what_is_far_is_hidden_and_a_single_token_never() -> None:
    score = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0, 50.0, 7.0, 8.0])
    cluster = torch.tensor([0, 0, 0, 0, 0, 1, 3, 3])  # the third has none
    found = torch.full((8, 4), 1000.0)
    found[torch.arange(8), cluster] = score
    both = torch.stack([found, found.flip(0)])
    for deviations in (0.5, 1.5, -0.3):
        expected = torch.zeros(8, dtype=torch.bool)
        for number in (0, 3):
            own = cluster == number
            expected[own] = score[own] >= score[own].mean() + deviations * score[own].std()
        hidden = unlike(both, deviations)
        assert torch.equal(hidden, torch.stack([expected, expected.flip(0)]))
        assert 0 < int(expected.sum()) < 8


def test_any_share_of_the_tokens_is_hidden_at_random() -> None:
    hidden = at_random(Draws(range(400), CPU), 10)
    counts = hidden.sum(dim=1)
    assert sorted(counts.unique().tolist()) == list(range(10))
    assert float(counts.float().mean()) == pytest.approx(4.5, abs=0.4)
    assert float(hidden.float().mean(dim=0).min()) > 0.35  # no place is left out
    assert torch.equal(hidden[7:9], at_random(Draws([7, 8], CPU), 10))
