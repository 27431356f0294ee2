"""The block of two streams: what each may know of the other."""

import torch

from inpformer.nn.dual_attention import DualBlock


def test_the_memory_is_mixed_of_itself_and_the_sample_knows_nothing_of_it() -> None:
    torch.manual_seed(0)
    block = DualBlock(8, 2)
    one, other, memory = torch.randn(3, 2, 5, 8)
    with torch.no_grad():
        assert torch.equal(block(one, memory)[0], block(one, other)[0])
        assert not torch.allclose(block(one, memory)[1], block(other, memory)[1])
        alike = memory[:, :1].expand(-1, 5, -1)  # whatever the keys say, their mix is one of them
        torch.testing.assert_close(block(one, alike)[1], block(other, alike)[1])


def test_a_memory_that_is_the_sample_becomes_what_the_sample_does() -> None:
    torch.manual_seed(0)
    block, tokens = DualBlock(8, 2), torch.randn(2, 5, 8)
    with torch.no_grad():
        sample, memory = block(tokens, tokens)
    torch.testing.assert_close(sample, memory)
