"""RB-AE's network: what of an image and what of its reference gets where."""

import torch
from torch import Tensor

from inpformer.encoders.shapes import Level
from inpformer.methods.rb_ae.network import RbAeNetwork, ReferenceAttention

LEVELS = (Level(8, 5), Level(4, 7))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention() -> ReferenceAttention:
    torch.manual_seed(0)
    return ReferenceAttention(6)


def network() -> RbAeNetwork:
    torch.manual_seed(0)
    return RbAeNetwork(LEVELS, 6)


def levels(count: int, seed: int = 0) -> list[Tensor]:
    return [noise(count, level.channels, level.side, level.side, seed=seed) for level in LEVELS]


def test_attention_is_its_formula() -> None:
    layer, found, references = attention(), noise(2, 6, 3, 3), noise(2, 6, 3, 3, seed=1)
    mixed = layer(found, references, torch.tensor([1, 0]))
    for image, reference in ((0, 1), (1, 0)):
        query, key, value = (
            one(grid)[0].flatten(1).T
            for one, grid in zip(
                (layer.query, layer.key, layer.value),
                (found[image : image + 1], *[references[reference : reference + 1]] * 2),
                strict=True,
            )
        )
        expected = (query @ key.T / 6**0.5).softmax(dim=1) @ value
        torch.testing.assert_close(mixed[image].flatten(1).T, expected)


def test_values_come_from_the_reference_alone() -> None:
    """Of a reference whose places are alike, every image is repaired to the same; else to values between the
    reference's, in whichever order its places stand.
    """
    layer, which = attention(), torch.zeros(2, dtype=torch.long)
    even = noise(1, 6, 1, 1).expand(1, 6, 3, 3)
    expected = layer.value(even).expand(2, -1, -1, -1)
    torch.testing.assert_close(layer(100 * noise(2, 6, 3, 3, seed=1), even, which), expected)
    reference, strange = noise(1, 6, 3, 3, seed=2), 100 * noise(2, 6, 3, 3, seed=3)
    values, mixed = layer.value(reference).flatten(2), layer(strange, reference, which).flatten(2)
    assert (mixed <= values.amax(dim=2, keepdim=True) + 1e-5).all()
    assert (mixed >= values.amin(dim=2, keepdim=True) - 1e-5).all()
    turned = layer(strange, reference.flip(2, 3), which).flatten(2)
    torch.testing.assert_close(turned, mixed, rtol=1e-4, atol=1e-5)


def test_every_image_has_its_own_reference() -> None:
    grids, references = levels(3), levels(2, seed=1)
    with torch.no_grad():
        output = network()(grids, references, torch.tensor([1, 0, 1]))
        moved = network()(grids, [one.roll(1, 0) for one in references], torch.tensor([0, 1, 0]))
        swapped = network()(grids, references, torch.tensor([1, 1, 1]))
    for one, other, changed in zip(output.rebuilt, moved.rebuilt, swapped.rebuilt, strict=True):
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(one[[0, 2]], changed[[0, 2]])
        assert not torch.allclose(one[1], changed[1])


def test_levels_come_back_in_their_shapes() -> None:
    output = network()(levels(3), levels(1, seed=1), torch.zeros(3, dtype=torch.long))
    assert [one.shape for one in output.found] == [(3, 6, 8, 8), (3, 6, 4, 4)]
    assert [one.shape for one in output.repaired] == [(3, 6, 8, 8), (3, 6, 4, 4)]
    assert [one.shape for one in output.rebuilt] == [(3, 5, 8, 8), (3, 7, 4, 4)]


def test_a_level_is_rebuilt_from_the_coarser_ones_too() -> None:
    model = network()
    repaired = [noise(1, 6, 8, 8), noise(1, 6, 4, 4, seed=1)]
    fine, coarse = model._rebuilt(repaired)
    other = [repaired[0], repaired[1] + 1]
    changed_fine, changed_coarse = model._rebuilt(other)
    assert not torch.allclose(fine, changed_fine)
    assert not torch.allclose(coarse, changed_coarse)
    alone = model._rebuilt([repaired[0] + 1, repaired[1]])
    assert torch.equal(alone[1], coarse)
