"""Attention of tokens over others: whose values come out, and that heads are put back as they were split."""

import torch

from inpformer.nn.cross_attention import CrossAttention, merge_heads, split_heads


def test_heads_split_and_merge() -> None:
    x = torch.arange(24.0).view(1, 3, 8)
    assert split_heads(x, 2).shape == (1, 2, 3, 4)
    assert split_heads(x, 2)[0, 1, 0].tolist() == [4, 5, 6, 7]
    assert torch.equal(merge_heads(split_heads(x, 2)), x)


def test_a_query_gets_the_context_that_it_points_at() -> None:
    attention = CrossAttention(channels=2, heads=1)
    with torch.no_grad():
        for layer, weight in ((attention.q, torch.eye(2)), (attention.proj, torch.eye(2))):
            layer.weight.copy_(weight)
            layer.bias.zero_()
        attention.kv.weight.copy_(torch.eye(2).repeat(2, 1))
        attention.kv.bias.zero_()
    context = 50 * torch.eye(2)[None]
    found = attention(torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]]), context)
    expected = torch.tensor([[[0.0, 50.0], [50.0, 0.0], [25.0, 25.0]]])
    torch.testing.assert_close(found, expected)
