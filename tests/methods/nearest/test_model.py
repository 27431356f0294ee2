"""Nearest neighbours: what the memory holds, what is far from it, and what it does not take."""

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.methods.base import Fit, Groups
from inpformer.methods.nearest.model import Nearest
from inpformer.methods.nearest.settings import NearestSettings

PYRAMID = EncoderShape((Level(8, 6), Level(4, 10)), None)
VIT = EncoderShape((Level(4, 12),) * 4, heads=3)
OWN = {PYRAMID: {"grid": 4, "channels": 8}, VIT: {"grid": None, "channels": None}}
SHAPES = pytest.mark.parametrize("shape", [PYRAMID, VIT], ids=["pyramid", "vit"])
IMAGES = 10


def noise(shape: EncoderShape, images: int, seed: int = 0) -> Groups:
    """The groups of made-up images."""
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.randn(images, level.tokens, level.channels, generator=generator) for level in shape.levels]
    return Nearest.wants(NearestSettings(**OWN[shape]), shape).of(levels)


def fitted(shape: EncoderShape, batches: Iterable[Groups], seed: int = 0, **settings: float) -> Nearest:
    torch.manual_seed(seed)
    model = Nearest(NearestSettings(**{**OWN[shape], **settings}), shape)
    given = list(batches)
    for phase in model.phases():
        assert isinstance(phase, Fit)
        phase.fit(given)
    return model


def of(groups: Groups, images: slice) -> list[Tensor]:
    return [group[images] for group in groups]


@SHAPES
@pytest.mark.parametrize(("share", "length"), [(0.05, 8), (0.5, 80), (1.0, 160), (1e-6, 1)])
def test_the_memory_holds_its_share_of_the_training_tokens(shape: EncoderShape, share: float, length: int) -> None:
    model = fitted(shape, [noise(shape, IMAGES)], coreset_share=share)
    assert model.memory.shape == (length, 8 if shape is PYRAMID else 12)


def test_the_memory_has_as_many_tokens_as_neighbours_are_asked_of_it() -> None:
    assert len(fitted(VIT, [noise(VIT, IMAGES)], coreset_share=1e-6, neighbours=5).memory) == 5


@SHAPES
def test_a_training_image_is_near_and_a_foreign_one_far(shape: EncoderShape) -> None:
    train = noise(shape, IMAGES)
    model = fitted(shape, [train], coreset_share=1.0)
    near = model.maps(of(train, slice(0, 3)), 32, zero_shot=False)
    far = model.maps([5 + 3 * group for group in noise(shape, 3, seed=1)], 32, zero_shot=False)
    assert near.shape == far.shape == (3, 256, 256)
    # A distance to oneself is the square root of what rounding leaves of squared lengths.
    assert near.max() < 0.02
    assert far.min() > 0.5
    assert (model.scores(far) > 100 * model.scores(near)).all()


def test_a_defect_lights_up_where_it_is() -> None:
    train = noise(VIT, IMAGES)
    model = fitted(VIT, [train], coreset_share=1.0)
    changed = [group.clone() for group in of(train, slice(0, 1))]
    for group in changed:
        group[0, 0] += 8  # the token in the upper left corner
    found = model.maps(changed, 64, zero_shot=False)[0]
    assert found.argmax() < 64 * 256
    assert found[128:, 128:].max() < 0.02 < 1 < found[0, 0]


def test_a_vits_tokens_are_the_mean_of_its_groups_without_projection() -> None:
    groups = noise(VIT, 2)
    model = fitted(VIT, [groups])
    assert model.projection is None
    assert len(model.phases()) == 1
    assert torch.allclose(model.tokens(groups), (groups[0] + groups[1]) / 2)


@SHAPES
def test_the_same_images_in_other_batches_make_the_same_memory(shape: EncoderShape) -> None:
    # Whole numbers, so that sums round alike in any order; the projection is fitted in 64 bit.
    train = [group.mul(8).round() for group in noise(shape, IMAGES)]
    whole = fitted(shape, [train], coreset_share=0.2)
    parts = fitted(shape, [of(train, slice(n, n + 3)) for n in range(0, IMAGES, 3)], coreset_share=0.2)
    assert torch.allclose(whole.memory, parts.memory, atol=1e-4)


@SHAPES
def test_a_loaded_model_judges_as_the_saved_one_whatever_its_memorys_length(shape: EncoderShape) -> None:
    saved = fitted(shape, [noise(shape, IMAGES)], coreset_share=0.3)
    loaded = fitted(shape, [noise(shape, IMAGES, seed=2)], coreset_share=0.1)
    assert len(loaded.memory) != len(saved.memory)
    loaded.load_tensors(saved.tensors(), "file")
    test = noise(shape, 2, seed=1)
    assert torch.equal(loaded.maps(test, 32, False), saved.maps(test, 32, False))


@pytest.mark.parametrize(
    "memory", [torch.zeros(0, 11), torch.zeros(4, 11), torch.zeros(4), torch.zeros(2, 2, 12), None]
)
def test_a_memory_that_does_not_fit_is_refused_and_the_old_one_stays(memory: Tensor | None) -> None:
    model = fitted(VIT, [noise(VIT, IMAGES)])
    before = model.memory.clone()
    with pytest.raises(UserError, match=r"model\.safetensors: .*memory"):
        model.load_tensors({} if memory is None else {"memory": memory}, "model.safetensors")
    assert torch.equal(model.memory, before)


def test_a_memory_that_was_never_filled_loads_but_judges_nothing() -> None:
    empty = Nearest(NearestSettings(**OWN[VIT]), VIT)
    loaded = fitted(VIT, [noise(VIT, IMAGES)])
    loaded.load_tensors(empty.tensors(), "checkpoint")
    with pytest.raises(UserError):
        loaded.maps(noise(VIT, 1), 32, zero_shot=False)


def test_without_training_images_there_is_no_memory() -> None:
    with pytest.raises(UserError):
        fitted(VIT, [])
