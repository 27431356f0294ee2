"""The trained part: shapes, the order of the decoder's outputs, ReLU attention by hand, and initialisation."""

import pytest
import torch
from torch import Tensor, nn

from inpformer.errors import UserError
from inpformer.methods.inp_former.network import (
    DECODER_BLOCKS,
    INPFormer,
    NetworkShape,
    PrototypeAttention,
)


@pytest.fixture
def model() -> INPFormer:
    torch.manual_seed(0)
    return INPFormer(NetworkShape(channels=16, heads=2, groups=2, num_prototypes=3))


def target(groups: int = 2) -> Tensor:
    return torch.randn(4, groups, 9, 16, generator=torch.Generator().manual_seed(1))


def plain_attention() -> PrototypeAttention:
    """One head whose projections leave everything as it is: q = tokens, k = v = prototypes."""
    attention = PrototypeAttention(channels=2, heads=1)
    with torch.no_grad():
        attention.q.weight.copy_(torch.eye(2))
        attention.kv.weight.copy_(torch.eye(2).repeat(2, 1))
        attention.proj.weight.copy_(torch.eye(2))
        for layer in (attention.q, attention.kv, attention.proj):
            layer.bias.zero_()
    return attention


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_shapes(groups: int) -> None:
    output = INPFormer(NetworkShape(16, 2, groups, num_prototypes=3))(target(groups))
    assert output.fused.shape == (4, 9, 16)
    assert output.prototypes.shape == (4, 3, 16)
    assert output.decoded.shape == output.target.shape == (4, groups, 9, 16)


def test_the_first_group_is_rebuilt_by_the_last_blocks(model: INPFormer) -> None:
    outputs: list[Tensor] = []
    for block in model.decoder:
        block.register_forward_hook(lambda _block, _inputs, output: outputs.append(output))
    decoded = model(target()).decoded
    torch.testing.assert_close(decoded[:, 0], sum(outputs[4:]) / 4)
    torch.testing.assert_close(decoded[:, 1], sum(outputs[:4]) / 4)


def test_every_block_sees_the_same_prototypes_and_the_one_before(model: INPFormer) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    made: list[Tensor] = []
    for block in model.decoder:
        block.register_forward_pre_hook(lambda _block, inputs: seen.append(inputs))
        block.register_forward_hook(lambda _block, _inputs, output: made.append(output))
    output = model(target())
    assert len(seen) == DECODER_BLOCKS
    assert all(torch.equal(prototypes, output.prototypes) for _, prototypes in seen)
    assert torch.equal(seen[0][0], model.bottleneck(output.fused))
    assert all(torch.equal(tokens, before) for (tokens, _), before in zip(seen[1:], made, strict=False))


def test_fused_is_the_mean_of_the_groups(model: INPFormer) -> None:
    features = target()
    torch.testing.assert_close(model(features).fused, (features[:, 0] + features[:, 1]) / 2)


def test_an_image_does_not_see_its_batch_mates(model: INPFormer) -> None:
    features = target()
    torch.testing.assert_close(model(features).decoded[2:3], model(features[2:3]).decoded)


def test_the_order_of_tokens_does_not_matter(model: INPFormer) -> None:
    features, order = target(), torch.randperm(9, generator=torch.Generator().manual_seed(2))
    straight, shuffled = model(features), model(features[:, :, order])
    torch.testing.assert_close(shuffled.prototypes, straight.prototypes)
    torch.testing.assert_close(shuffled.decoded, straight.decoded[:, :, order])


def test_relu_attention_by_hand() -> None:
    attention = plain_attention()
    tokens = torch.tensor([[[3.0, 4.0], [0.0, 5.0], [-2.0, 0.0]]])
    prototypes = torch.tensor([[[2.0, 0.0], [-1.0, 0.0]]])
    # Cosines: (0.6, -0.6), (0, 0), (-1, 1). Negative ones count for nothing, the second token is unlike both.
    expected = [[1.2, 0.0], [0.0, 0.0], [-1.0, 0.0]]
    torch.testing.assert_close(attention(tokens, prototypes)[0], torch.tensor(expected))
    torch.testing.assert_close(attention(100 * tokens, prototypes)[0], torch.tensor(expected))
    with torch.no_grad():
        attention.learn_scale.fill_(2.0)
    torch.testing.assert_close(attention(tokens, prototypes)[0], 2 * torch.tensor(expected))


def test_the_decoder_attention_has_no_residual(model: INPFormer) -> None:
    block = model.decoder[0]
    with torch.no_grad():
        block.attn.learn_scale.zero_()
    one, other = (block(torch.randn(1, 5, 16), torch.randn(1, 3, 16)) for _ in range(2))
    assert torch.equal(one, other)


def test_initialisation() -> None:
    torch.manual_seed(0)
    model = INPFormer(NetworkShape(channels=32, heads=2, groups=2, num_prototypes=200))
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    weights = torch.cat([m.weight.detach().flatten() for m in linear])
    assert float(weights.std()) == pytest.approx(0.009866, rel=0.01)  # 0.01, less what the cut at 3σ takes
    assert 0.0295 < float(weights.abs().max()) <= 0.03
    assert all(not m.bias.any() for m in linear)
    assert float(model.prototype_token.detach().std()) == pytest.approx(1, abs=0.03)
    assert all((block.attn.learn_scale == 1).all() for block in model.decoder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_prototypes": 0}, "num_prototypes is 0: it must be at least 1"),
        ({"heads": 0}, "heads is 0: it must be at least 1"),
        ({"channels": 15}, "channels is 15: it must be a multiple of the 2 heads"),
        ({"channels": 0}, "channels is 0"),
        ({"groups": 3}, "groups is 3: it must be a divisor of the 8 decoder blocks"),
        ({"groups": 0}, "groups is 0"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        NetworkShape(**({"channels": 16, "heads": 2, "groups": 2, "num_prototypes": 3} | change))
