"""Which blocks of a ViT are read: by default, by setting, and how that enters the key of the features."""

from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from inpformer.encoders.encoder import load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.encoders.taps import last_taps, middle_taps
from inpformer.encoders.vit import ViTEncoder
from inpformer.errors import UserError

VIT = EncoderSettings("vit_tiny_patch16_224", "set_below.safetensors", None, 64, 64, None)
# Of this encoder with all weights 0 and without the setting taps: what stores of that time are named by.
KEY_BEFORE = "55c3fe562864daad481c5b662182123e4ae83660c6d3262eb12bc3892e39d717"


@pytest.fixture(scope="module")
def empty_vit(tmp_path_factory: pytest.TempPathFactory) -> EncoderSettings:
    file = tmp_path_factory.mktemp("weights") / "zero.safetensors"
    state = timm.create_model(VIT.name, pretrained=False, num_classes=0).state_dict()
    save_file({name: torch.zeros_like(tensor) for name, tensor in state.items()}, file)
    return replace(VIT, weights=str(file))


def test_the_defaults_are_the_papers_for_plain_vits_and_the_last_four_blocks_for_dinov3() -> None:
    assert middle_taps(12) == (2, 3, 4, 5, 6, 7, 8, 9)
    assert middle_taps(24) == (4, 6, 8, 10, 12, 14, 16, 18)
    assert [last_taps(depth) for depth in (12, 24)] == [(8, 9, 10, 11), (20, 21, 22, 23)]


@pytest.mark.parametrize(("default", "depth"), [(middle_taps, 32), (last_taps, 3)])
def test_a_depth_without_a_default_is_refused_with_the_key(default: object, depth: int) -> None:
    with pytest.raises(UserError, match=rf"features\.encoder\.taps is null, .*{depth} blocks"):
        default(depth)  # type: ignore[operator]


def test_without_taps_the_key_is_that_of_stores_made_before_the_setting(empty_vit: EncoderSettings) -> None:
    assert load_encoder(empty_vit).key == KEY_BEFORE


def test_the_key_follows_the_blocks_that_are_read_not_how_they_were_named(empty_vit: EncoderSettings) -> None:
    assert load_encoder(replace(empty_vit, taps=middle_taps(12))).key == KEY_BEFORE
    # The same weights: cut after the same block, but another one is left out.
    other = load_encoder(replace(empty_vit, taps=(1, 3, 4, 5, 6, 7, 8, 9)))
    assert other.digest == load_encoder(empty_vit).digest
    assert other.key != KEY_BEFORE


def test_the_blocks_of_the_setting_are_those_that_come_out(empty_vit: EncoderSettings) -> None:
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=64, embed_dim=16, depth=5, num_heads=2, num_classes=0).eval()
    images = torch.randn(2, 3, 64, 64)
    encoder = ViTEncoder(vit, 64, (0, 4))
    assert len(encoder.levels) == 2
    with torch.no_grad():
        expected = vit.forward_intermediates(
            images, indices=[0, 4], norm=False, output_fmt="NLC", intermediates_only=True
        )
        for ours, theirs in zip(encoder(images), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert len(load_encoder(replace(empty_vit, taps=(0, 1))).network.blocks) == 2


@pytest.mark.parametrize("taps", [(), (3,), (2, 3, 4), (3, 2), (2, 2), (-2, 3)])
def test_taps_that_no_method_can_group_are_refused_when_they_are_read(taps: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"^taps is .*an even number of blocks"):
        replace(VIT, taps=taps)


def test_a_block_that_the_encoder_has_not_is_refused_with_those_it_has(empty_vit: EncoderSettings) -> None:
    with pytest.raises(UserError, match=r"features\.encoder\.taps holds 12: the encoder's 12 blocks .* 0 to 11"):
        load_encoder(replace(empty_vit, taps=(8, 12)))
