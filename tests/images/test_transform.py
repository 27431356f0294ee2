"""Pictures, masks and boxes through the transform, against numbers worked out another way."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from inpformer.errors import UserError
from inpformer.images.transform import Transform

MEAN, STD = (0.5, 0.4, 0.3), (0.1, 0.2, 0.25)
WHOLE, CROPPED = Transform(64, 64, MEAN, STD), Transform(64, 56, MEAN, STD)


def plain(resize: int, crop: int) -> Transform:
    """One that leaves colours between 0 and 1."""
    return Transform(resize, crop, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def white_box(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("L", size)
    image.paste(255, box)
    return image


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def test_colours_are_scaled_by_mean_and_std() -> None:
    pixels = WHOLE.image(Image.new("RGB", (30, 20), (255, 51, 0)))
    assert pixels.shape == (3, 64, 64)
    assert pixels.dtype == torch.float32
    expected = torch.tensor([(1 - 0.5) / 0.1, (0.2 - 0.4) / 0.2, (0 - 0.3) / 0.25])
    torch.testing.assert_close(pixels, expected[:, None, None].expand(3, 64, 64))


def test_the_crop_is_the_centre() -> None:
    image = noise(64, 64)
    expected = np.asarray(image)[4:60, 4:60].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(plain(64, 56).image(image), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(200, 150), (40, 20)])
def test_the_resize_is_bilinear_and_antialiased(size: tuple[int, int]) -> None:
    image = noise(*size)
    pixels = torch.from_numpy(np.asarray(image).transpose(2, 0, 1)[None] / 255)
    expected = F.interpolate(pixels, size=(64, 64), mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(plain(64, 64).image(image).double(), expected, rtol=0, atol=1.2 / 255)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA", "CMYK"])
def test_every_mode_becomes_three_channels(mode: str) -> None:
    image = noise(64, 64).convert(mode)
    pixels = plain(64, 64).image(image)
    np.testing.assert_allclose(pixels, np.asarray(image.convert("RGB")).transpose(2, 0, 1) / 255, atol=1e-6)
    assert mode not in ("L", "1", "LA") or torch.equal(pixels[0], pixels[2])


def test_transparency_is_ignored() -> None:
    image = noise(64, 64)
    image.putalpha(7)
    assert torch.equal(WHOLE.image(image), WHOLE.image(noise(64, 64)))


@pytest.mark.parametrize(("grey", "defect"), [(0, False), (127, False), (128, True), (255, True)])
def test_a_mask_is_true_above_half_of_full_scale(grey: int, defect: bool) -> None:
    mask = CROPPED.mask(Image.new("L", (40, 30), grey))
    assert mask.shape == (256, 256)
    assert mask.dtype == np.bool_
    assert mask.all() == mask.any() == defect


def test_a_mask_is_cropped_and_enlarged_by_nearest() -> None:
    mask = Transform(8, 4, MEAN, STD).mask(white_box((8, 8), (0, 0, 3, 4)))  # the crop sees 2 to 6 of 8
    expected = np.zeros((256, 256), np.bool_)
    expected[:128, :64] = True
    np.testing.assert_array_equal(mask, expected)


def test_the_visible_part_is_the_crop() -> None:
    seen = np.asarray(plain(64, 32).frame((64, 64)).visible(white_box((64, 64), (16, 16, 48, 48))))
    assert seen.shape == (256, 256, 3)
    assert (seen[8:-8, 8:-8] == 255).all()  # resampling mixes the outermost pixels with their neighbours
    assert seen.mean() > 245


def test_the_full_map_is_the_full_image_or_its_crop() -> None:
    assert WHOLE.frame((300, 200)).box == (0, 0, 300, 200)
    assert Transform(448, 392, MEAN, STD).frame((896, 448)).box == (56, 28, 840, 420)


def test_a_box_keeps_at_least_a_pixel_and_stays_inside() -> None:
    left, top, right, bottom = WHOLE.frame((10, 7)).box_in_image((255, 0, 256, 1))
    assert (left, top, right, bottom) == (9, 0, 10, 1)


@pytest.mark.parametrize("transform", [WHOLE, CROPPED, Transform(256, 196, MEAN, STD)])
@pytest.mark.parametrize("size", [(300, 200), (64, 64), (50, 400)])
def test_a_box_comes_back_to_where_its_mask_was(transform: Transform, size: tuple[int, int]) -> None:
    width, height = size
    box = (width // 4, height // 3, width // 2, height * 3 // 4)
    found = transform.frame(size).box_in_image(bounds(transform.mask(white_box(size, box))))
    # As exact as the pixels that the encoder sees.
    allowed = [max(1, side / transform.resize) + 1 for side in size] * 2
    assert all(abs(a - b) <= by for a, b, by in zip(found, box, allowed, strict=True))


@pytest.mark.parametrize(("resize", "crop", "key"), [(64, 65, "resize is 64"), (64, 0, "crop is 0")])
def test_impossible_sizes_are_refused(resize: int, crop: int, key: str) -> None:
    with pytest.raises(UserError, match=f"^{key}: it must be at least"):
        Transform(resize, crop, MEAN, STD)
