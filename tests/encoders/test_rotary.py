"""DINOv3: what comes of its blocks is what timm's own forward gives, on random weights."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models.eva import Eva

from inpformer.encoders.encoder import load_encoder
from inpformer.encoders.levels import Wants
from inpformer.encoders.rotary import RotaryViTEncoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.encoders.tokens import token_wants
from inpformer.errors import UserError

TINY = "vit_tiny_patch16_dinov3_qkvb"
VARIANTS = [  # their own widths and heads, few blocks; S+ has another feed-forward part, qkvb a bias
    "vit_small_patch16_dinov3",
    "vit_small_patch16_dinov3_qkvb",
    "vit_small_plus_patch16_dinov3",
    "vit_base_patch16_dinov3",
    "vit_large_patch16_dinov3",
]


def dinov3(name: str, **options: Any) -> Eva:
    """timm's model with random weights that all count: as timm begins, a block adds next to nothing."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=0, **options).eval()
    for key, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if "gamma" in key or "norm" in key else 0.0, 0.05)
    return model


@torch.no_grad()
def timms(model: Eva, images: torch.Tensor, taps: tuple[int, ...]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = model.forward_intermediates(
        images, indices=list(taps), norm=False, output_fmt="NLC", intermediates_only=True
    )
    return found


@pytest.mark.parametrize("name", VARIANTS)
def test_every_block_gives_what_timm_gives(name: str) -> None:
    model = dinov3(name, depth=2)
    images = torch.randn(2, 3, 80, 80)
    encoder = RotaryViTEncoder(model, 80, (0, 1))
    with torch.no_grad():
        for ours, theirs in zip(encoder(images), timms(model, images, (0, 1)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert encoder.levels == (Level(5, model.embed_dim),) * 2


@pytest.mark.parametrize("size", [16, 64, 256, 336])
def test_an_image_of_any_size_has_positions_of_its_own(size: int) -> None:
    model = dinov3(TINY, depth=4)
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        ours = RotaryViTEncoder(model, size)(images)
    assert len(ours) == 4
    for one, theirs in zip(ours, timms(model, images, (0, 1, 2, 3)), strict=True):
        torch.testing.assert_close(one, theirs, rtol=1e-5, atol=1e-5)


def test_the_place_of_a_patch_counts() -> None:
    """Without the rotation, exchanged patches would give the same tokens, exchanged."""
    model = dinov3(TINY, depth=4)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        straight, mirrored = (RotaryViTEncoder(model, 32)(x)[-1] for x in (images, images.roll(16, dims=3)))
    assert (straight[:, [1, 0, 3, 2]] - mirrored).abs().max() > 1e-2


def test_blocks_after_the_last_tapped_one_are_cut() -> None:
    assert len(RotaryViTEncoder(dinov3(TINY, depth=6), 32, (1, 3)).blocks) == 4


def test_a_crop_beside_the_patches_is_refused() -> None:
    with pytest.raises(UserError, match=r"crop is 392: .* patch size 16, e\.g\. 384\.$"):
        RotaryViTEncoder(dinov3(TINY, depth=4), 392)


def test_one_is_loaded_by_name_from_a_file_and_methods_read_it_as_any_vit(tmp_path: Path) -> None:
    file = tmp_path / "dinov3.safetensors"
    model = dinov3(TINY)
    save_file(model.state_dict(), file)
    settings = EncoderSettings(TINY, str(file), None, 64, 64, levels=None)
    encoder = load_encoder(settings)
    assert encoder.shape == EncoderShape((Level(4, 192),) * 4, 3)
    image = Image.effect_noise((90, 70), 60).convert("RGB")
    expected = timms(model, encoder.transform.image(image)[None], (8, 9, 10, 11))
    for ours, theirs in zip(encoder.encode([image]), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert token_wants(encoder.shape, None) == Wants(((0, 1), (2, 3)))
    assert load_encoder(settings).key == encoder.key
    assert not encoder.network.training
    assert not any(p.requires_grad for p in encoder.network.parameters())


def test_another_eva_is_refused_as_its_positions_are_not_known(tmp_path: Path) -> None:
    name = "eva02_tiny_patch14_224"  # learned positions beside a rotation
    with pytest.raises(UserError, match=f"encoder {name} is neither a plain ViT nor a DINOv3"):
        load_encoder(EncoderSettings(name, str(tmp_path / "any.safetensors"), None, 224, 224, levels=None))
