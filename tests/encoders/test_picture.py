"""The picture itself as a level of a convolutional encoder."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from inpformer.encoders.encoder import load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.encoders.tokens import picture_level, token_wants
from inpformer.errors import UserError
from inpformer.images.augment import augmentations
from inpformer.methods import METHODS

SMALL = EncoderSettings(resize=64, crop=64, levels=(8, 16))
EVERY_VALUE = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
PICTURE = Image.fromarray(EVERY_VALUE)
ALONE = EncoderShape((Level(64, 3),), None, picture=0)
NOT_PICTURES = [name for name in METHODS if name != "scl_vi"]


@pytest.mark.parametrize("levels", [(1,), (1, 8, 16), (8, 16, 1)])
def test_its_values_come_out_as_they_are_and_16_bit_hold_them(levels: tuple[int, ...]) -> None:
    encoder = load_encoder(replace(SMALL, levels=levels))
    place = picture_level(encoder.shape)
    assert place == levels.index(1)
    assert encoder.shape.levels[place] == Level(64, 3)
    found = encoder.encode([PICTURE])[place][0].half().view(64, 64, 3)
    assert torch.equal(found, torch.from_numpy(EVERY_VALUE).half())


def test_the_networks_levels_are_what_they_are_without_it() -> None:
    plain, both = (load_encoder(replace(SMALL, levels=levels)) for levels in ((8, 16), (8, 1, 16)))
    assert both.digest == plain.digest
    assert both.key != plain.key
    for number, level in zip(both.shape.of_network, plain.encode([PICTURE]), strict=True):
        assert torch.equal(both.encode([PICTURE])[number], level)


def test_alone_it_takes_no_weights() -> None:
    """Whatever is named for the network; one that is not timm's is refused all the same."""
    settings = replace(SMALL, name="resnet18", weights="gone.safetensors", levels=(1,))
    encoder = load_encoder(settings)
    assert list(encoder.network.state_dict()) == []
    assert encoder.shape == ALONE
    with pytest.raises(UserError, match=r"^name is"):
        load_encoder(replace(settings, name="resnet_of_mine"))


def test_forms_of_a_picture_are_pictures() -> None:
    """Of which one mixes colours after they were scaled, so that some would lie outside."""
    encoder = load_encoder(replace(SMALL, levels=(1, 16)))
    pixels = encoder.transform.image(PICTURE)
    (seen, _) = encoder.features(torch.stack([form(pixels) for form in augmentations()]))
    assert torch.equal(seen, seen.round())
    assert (float(seen.min()), float(seen.max())) == (0, 255)


@pytest.mark.parametrize("name", NOT_PICTURES)
def test_methods_of_features_leave_it_aside_and_refuse_it_alone(name: str) -> None:
    method = METHODS[name]
    plain = EncoderShape((Level(8, 6), Level(4, 10)), None)
    both = EncoderShape((Level(8, 6), Level(64, 3), Level(4, 10)), None, picture=1)
    wanted, without = (method.wants(method.settings(), shape) for shape in (both, plain))
    assert wanted.shapes(both.levels) == without.shapes(plain.levels)
    assert {number for group in wanted.groups for number in group} == {0, 2}
    with pytest.raises(UserError, match="number of the network's levels is 0"):
        method.wants(method.settings(), ALONE)


def test_a_picture_that_is_not_there_is_named_with_what_to_do() -> None:
    for shape in (EncoderShape((Level(8, 6),), None), EncoderShape((Level(4, 12),) * 4, heads=3)):
        with pytest.raises(UserError, match=r"put 1, its stride, into features\.encoder\.levels"):
            picture_level(shape)
        assert token_wants(shape, 4 if shape.heads is None else None)
