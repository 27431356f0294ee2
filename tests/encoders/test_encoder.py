"""Encoders: what they make of pictures, what identifies them, and the sentence for weights that do not fit."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from inpformer.encoders.encoder import BUNDLED, Encoder, load_encoder
from inpformer.encoders.levels import Wants
from inpformer.encoders.settings import EncoderSettings
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.encoders.vit import ViTEncoder, resize_positions
from inpformer.errors import UserError

SMALL = EncoderSettings(resize=64, crop=64, levels=(4, 8, 16, 32))
VIT = EncoderSettings("vit_tiny_patch16_224", "set_by_each_test.safetensors", None, 64, 64, None)
VIT_PARTS = {"img_size": 56, "patch_size": 14, "embed_dim": 16, "depth": 12, "num_heads": 2, "num_classes": 0}


def picture(seed: int = 0, size: tuple[int, int] = (80, 64), mode: str = "RGB") -> Image.Image:
    torch.manual_seed(seed)
    return Image.fromarray(torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8).numpy()).convert(mode)


@pytest.fixture(scope="module")
def vit_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of timm's smallest plain ViT, in timm's naming."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(timm.create_model(VIT.name, pretrained=False, num_classes=0).state_dict(), file)
    return file


def halves(levels: list[Tensor]) -> Tensor:
    """As INP-Former groups a ViT's blocks: [B, 2, N, C]."""
    return torch.stack(Wants(((0, 1, 2, 3), (4, 5, 6, 7))).of(levels), dim=1)


def group_means(vit: VisionTransformer, images: Tensor) -> Tensor:
    """timm's own forward: the tapped blocks without the final norm, patch tokens alone."""
    layers = vit.forward_intermediates(
        images, indices=list(range(2, 10)), norm=False, output_fmt="NLC", intermediates_only=True
    )
    return torch.stack([sum(layers[:4]) / 4, sum(layers[4:]) / 4], dim=1)


def test_pictures_of_any_size_and_mode_become_tokens(encoder: Encoder) -> None:
    images = [picture(0), picture(1, (64, 64), "L"), picture(2, (300, 20), "RGBA"), picture(3, mode="P")]
    features = encoder.encode(images)
    assert [level.side for level in encoder.shape.levels] == [16, 8, 4, 2]
    assert [tuple(level.shape) for level in features] == [(4, one.tokens, one.channels) for one in encoder.shape.levels]
    assert {level.dtype for level in features} == {torch.float32}
    assert encoder.shape.heads is None
    assert all(torch.isfinite(level).all() for level in features)


def test_features_do_not_depend_on_the_batch(encoder: Encoder) -> None:
    images = [picture(seed) for seed in range(4)]
    for whole, alone in zip(encoder.encode(images), encoder.encode(images[2:3]), strict=True):
        torch.testing.assert_close(whole[2:3], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("column", "row"), [(0, 0), (3, 0), (1, 2)])
def test_tokens_lie_row_by_row_where_the_picture_has_them(encoder: Encoder, column: int, row: int) -> None:
    plain = Image.new("RGB", (64, 64), (90, 120, 150))
    spotted = plain.copy()
    ImageDraw.Draw(spotted).ellipse((16 * column + 4, 16 * row + 4, 16 * column + 11, 16 * row + 11), "red")
    for level, with_spot, without in zip(
        encoder.shape.levels, encoder.encode([spotted]), encoder.encode([plain]), strict=True
    ):
        place = int((with_spot - without)[0].norm(dim=-1).argmax())
        found = (place // level.side * 4 // level.side, place % level.side * 4 // level.side)
        assert level.side < 4 or found == (row, column)


def test_the_key_is_the_same_in_every_process_and_after_use(encoder: Encoder) -> None:
    before = encoder.key
    encoder.encode([picture(0), picture(1)])
    again = load_encoder(SMALL)
    assert encoder.key == again.key == before
    assert encoder.digest == again.digest
    assert len(bytes.fromhex(encoder.key)) == 32


@pytest.mark.parametrize("change", [{"crop": 48}, {"resize": 72}, {"levels": (8, 16)}])
def test_the_key_changes_with_what_changes_the_features(encoder: Encoder, change: dict[str, Any]) -> None:
    assert load_encoder(replace(SMALL, **change)).key != encoder.key


def test_the_key_changes_with_the_weights_but_not_with_their_place(encoder: Encoder, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = timm.create_model(BUNDLED, pretrained=False).state_dict()  # with a classifier, which is ignored
    keys = set()
    for name in ("a.safetensors", "b.safetensors"):
        save_file(state, tmp_path / name)
        keys.add(load_encoder(replace(SMALL, weights=str(tmp_path / name))).key)
    assert len(keys) == 1
    assert encoder.key not in keys


def test_the_weights_are_frozen(encoder: Encoder) -> None:
    assert not encoder.network.training
    assert not any(p.requires_grad for p in encoder.network.parameters())


def test_a_vit_from_a_file_gives_timms_own_features(vit_file: Path) -> None:
    encoder = load_encoder(replace(VIT, weights=str(vit_file), resize=224, crop=224))
    vit = timm.create_model(VIT.name, pretrained=False, num_classes=0).eval()
    vit.load_state_dict(load_file(vit_file))
    image = picture()
    with torch.no_grad():
        expected = group_means(vit, encoder.transform.image(image)[None])
    torch.testing.assert_close(halves(encoder.encode([image])), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == (1, 2, 196, 192)
    assert encoder.shape == EncoderShape((Level(14, 192),) * 8, 3)


def test_a_vit_takes_other_sizes_than_its_own(vit_file: Path) -> None:
    encoder = load_encoder(replace(VIT, weights=str(vit_file)))
    assert halves(encoder.encode([picture(0), picture(1)])).shape == (2, 2, 16, 192)


@pytest.mark.parametrize(
    "options",
    [
        {"reg_tokens": 4, "no_embed_class": True, "init_values": 1.0},  # DINOv2's
        {"reg_tokens": 2},
        {"class_token": False, "global_pool": "avg"},
        {"pre_norm": True},
    ],
)
def test_every_plain_vit_gives_timms_own_features(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    vit = VisionTransformer(**VIT_PARTS, **options).eval()
    images = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        torch.testing.assert_close(halves(ViTEncoder(vit, 56)(images)), group_means(vit, images), rtol=1e-4, atol=1e-5)


def test_blocks_after_the_last_tapped_one_are_cut() -> None:
    encoder = ViTEncoder(VisionTransformer(**VIT_PARTS), 56)
    assert len(encoder.blocks) == 10


def test_positions_are_resized_by_the_scale_that_dinov2_uses() -> None:
    ramp = torch.arange(37.0).expand(37, 37).reshape(1, -1, 1)  # the column, at every place
    resized = resize_positions(ramp, 28).view(28, 28)
    columns = (torch.arange(28) + 0.5) * 37 / 28.1 - 0.5  # by the scale (28 + 0.1) / 37, not 28 / 37
    error = (resized[5] - columns)[2:-2]
    assert error.abs().max() < 0.05  # the cubic itself waves about a ramp by as much
    assert abs(float(error.mean())) < 0.005  # by 28 / 37 it would be 0.066
    assert torch.equal(resize_positions(ramp, 37), ramp)


@pytest.mark.parametrize(("crop", "suggested"), [(60, 64), (8, 16), (223, 224)])
def test_a_crop_beside_the_patches_is_refused_with_a_crop_that_fits(vit_file: Path, crop: int, suggested: int) -> None:
    with pytest.raises(
        UserError, match=rf"crop is {crop}: it must be a multiple of the patch size 16, e\.g\. {suggested}\.$"
    ):
        load_encoder(replace(VIT, weights=str(vit_file), resize=256, crop=crop))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "best.pth"}, r"weights is 'best\.pth': it must be bundled, hub or the path of a \.safetensors"),
        ({"name": "resnet18"}, f"weights is 'bundled': it must be hub or a .safetensors file: only {BUNDLED}"),
        ({"crop": 0}, "crop is 0: it must be at least 1 pixel"),
        ({"resize": 63}, "resize is 63: it must be at least the crop, 64"),
        ({"levels": ()}, r"levels is \(\): it must be at least one stride, each once"),
        ({"levels": (8, 8)}, r"levels is \(8, 8\): it must be at least one stride, each once"),
        ({"taps": (2, 3)}, r"taps is \(2, 3\): it must be null where levels are given"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        replace(SMALL, **change)


def test_a_level_that_the_network_has_not_is_refused_with_those_it_has() -> None:
    with pytest.raises(UserError, match=rf"levels holds 5: {BUNDLED} has the strides \[2, 4, 8, 16, 32\]"):
        load_encoder(replace(SMALL, levels=(4, 5)))


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(UserError, match="name is 'resnet999'"):
        load_encoder(replace(SMALL, name="resnet999", weights="hub"))


def test_a_convolutional_encoder_needs_levels() -> None:
    with pytest.raises(UserError, match=f"encoder {BUNDLED} is neither a plain ViT nor a DINOv3: give levels"):
        load_encoder(replace(SMALL, levels=None))


def test_hub_weights_out_of_reach_are_refused_with_the_way_out() -> None:
    with pytest.raises(UserError, match=r"resnet18 could not be made .*give weights as a \.safetensors file"):
        load_encoder(replace(SMALL, name="resnet18", weights="hub"))


def test_a_missing_weights_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "gone.safetensors"
    with pytest.raises(UserError, match=rf"encoder weights {file} is no file: check features\.encoder\.weights"):
        load_encoder(replace(VIT, weights=str(file)))


def test_a_damaged_weights_file_is_named(vit_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "half.safetensors"
    file.write_bytes(vit_file.read_bytes()[:5000])
    with pytest.raises(UserError, match=rf"encoder weights {file} is no safetensors file .*fetch it again"):
        load_encoder(replace(VIT, weights=str(file)))


def test_the_weights_files_sha256_is_checked_if_given(vit_file: Path) -> None:
    right = hashlib.sha256(vit_file.read_bytes()).hexdigest()
    assert load_encoder(replace(VIT, weights=str(vit_file), weights_sha256=right)).shape.heads == 3
    with pytest.raises(UserError, match=rf"have the sha256 {right}, not {'0' * 64}: fetch the file again or correct"):
        load_encoder(replace(VIT, weights=str(vit_file), weights_sha256="0" * 64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "resnet18", "levels": (8,)}, r"lack conv1\.weight: they are not of resnet18"),
        ({"name": "vit_tiny_patch16_384"}, r"hold pos_embed as \(1, 197, 192\), vit_tiny_patch16_384 has it"),
    ],
)
def test_weights_of_another_model_are_refused(vit_file: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"encoder weights .*{message}"):
        load_encoder(replace(VIT, weights=str(vit_file), **change))
