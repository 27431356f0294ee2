"""Tiles: they cover the picture, blend without seams, and find what a whole-picture score would drown."""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.errors import UserError
from inpformer.images.opening import MAX_PIXELS, TooLargeError
from inpformer.images.tiling import Tiling
from inpformer.judging.calibration import calibrate
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods.base import Fit, Train
from inpformer.nn.maps import image_scores
from inpformer.training.step import train_step
from pipelines.features.settings import FeatureSettings
from pipelines.features.tile_check import check_tiles
from tests.conftest import INP_FORMER, MULTI, OWN, noise_parts

SIZES = [(3000, 2000), (512, 512), (700, 130), (100, 90), (513, 1025)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tiling", [Tiling(512), Tiling(512, 0.0), Tiling(256, 0.5)])
def test_tiles_cover_every_pixel_and_overlap_as_asked(tiling: Tiling, size: tuple[int, int]) -> None:
    seen = np.zeros(size[::-1], int)
    windows = tiling.windows(size)
    for left, top, right, bottom in windows:
        assert (right - left, bottom - top) == (min(tiling.tile, size[0]), min(tiling.tile, size[1]))
        assert min(left, top) >= 0
        seen[top:bottom, left:right] += 1
    assert seen.min() == 1
    lefts = sorted({window[0] for window in windows})
    assert all(b - a <= tiling.tile * (1 - tiling.overlap) + 1 for a, b in pairwise(lefts))


def mean_of_the_top(tile: NDArray[np.float32]) -> float:
    return float(image_scores(torch.from_numpy(np.ascontiguousarray(tile))[None]))


@pytest.mark.parametrize("size", SIZES)
def test_equal_tiles_blend_without_a_seam(size: tuple[int, int]) -> None:
    tiling = Tiling(512)
    flat = [np.full((256, 256), 0.25, np.float32)] * len(tiling.windows(size))
    blended, score = tiling.blend(flat, size, mean_of_the_top)
    assert blended.shape == tiling.frame(size).shape
    np.testing.assert_allclose(blended, 0.25, rtol=1e-6)
    assert score == pytest.approx(0.25)


def test_the_score_is_the_worst_tiles_not_the_whole_pictures() -> None:
    tiling, size = Tiling(512, 0.25), (3000, 2000)
    maps = [np.zeros((256, 256), np.float32) for _ in tiling.windows(size)]
    maps[-1][200:, 200:] = 1.0  # the far corner of the last tile: 4.8 % of it, 0.2 % of the picture
    blended, score = tiling.blend(maps, size, mean_of_the_top)
    assert score == pytest.approx(1.0)
    assert np.sort(blended.ravel())[-blended.size // 100 :].mean() < 0.25
    assert blended[-1, -1] == pytest.approx(1.0)
    assert score <= blended.max()  # so that a FAIL has a place on the map


def test_masks_and_boxes_lie_where_the_map_does() -> None:
    tiling, size = Tiling(512), (3000, 2000)
    mask = Image.new("L", size)
    mask.paste(255, (2900, 1900, 3000, 2000))
    rows, columns = np.nonzero(tiling.mask(mask))
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    assert tiling.frame(size).box_in_image(box) == (2900, 1900, 3000, 2000)
    assert tiling.frame(size).pixel_area == pytest.approx(4.0)


def test_tiles_must_not_be_cropped() -> None:
    with pytest.raises(UserError, match=r"^encoder\.crop is 64: it must be equal to resize, 72, with tiling"):
        FeatureSettings(EncoderSettings(resize=72, crop=64), Tiling(64))


@pytest.mark.parametrize(("tile", "overlap", "key"), [(8, 0.25, "tile is 8"), (512, 0.9, r"overlap is 0\.9")])
def test_impossible_tiles_are_refused(tile: int, overlap: float, key: str) -> None:
    with pytest.raises(UserError, match=f"^{key}: it must be"):
        Tiling(tile, overlap)


def surface(seed: int) -> Image.Image:
    """A brushed plate of 3000×2000 pixels: streaks along it, light falling off to one side."""
    rng = np.random.default_rng(seed)
    streaks = ndimage.uniform_filter1d(rng.normal(0, 60, (2000, 3000)).astype(np.float32), 60, axis=1)
    light = np.linspace(110, 150, 3000, dtype=np.float32)
    return Image.fromarray(np.clip(streaks + light, 0, 255).astype(np.uint8))


def test_a_defect_in_the_corner_of_a_3000_by_2000_image_is_found(encoder: Encoder) -> None:
    tiling = Tiling(500, 0.2)
    own = replace(OWN, channels=32)
    wants = INP_FORMER.wants(own, encoder.shape)
    tiles = [
        wants.of(encoder.encode([image.crop(window) for window in tiling.windows(image.size)]))[0]
        for image in (surface(seed) for seed in range(2))
    ]
    torch.manual_seed(0)
    model = INP_FORMER.make(own, encoder.shape)
    fit, train = model.phases()
    assert isinstance(fit, Fit)
    assert isinstance(train, Train)
    fit.fit([[tile] for tile in tiles])
    optimizer = train.optimizer(train.network.parameters())
    tokens = torch.cat(tiles)
    for step in range(80):
        batch = torch.randint(len(tokens), (16,), generator=torch.Generator().manual_seed(step))
        loss = partial(train.loss, train.network, [tokens[batch]], None, ())
        train_step(train.network, optimizer, loss, 1e-3, train.clip)
    detector = Detector(encoder, INP_FORMER, own, {ALL: model}, MULTI, {}, tiling)
    good = [float(detector.predict([surface(seed)], ["nut"]).scores[0]) for seed in range(2, 6)]
    detector.thresholds = calibrate({"nut": good}, CalibrationSettings(0.2))
    defective = surface(9)
    defective.paste(30, (2950, 1955, 2995, 1995))  # a chip: 0.03 % of the picture, 45 pixels wide
    for image, decision in ((surface(10), "PASS"), (defective, "FAIL")):
        prediction = detector.predict([image], ["nut"])
        judged = detector.decide(
            float(prediction.scores[0]), prediction.maps[0], prediction.looks[0], image.size, "nut"
        )
        assert judged.decision == decision
    left, top, right, bottom = judged.regions[0].box
    assert 2500 < left < 2970 < right  # one of the 16 tokens of a tile is 125 pixels wide
    assert 1500 < top < 1970 < bottom
    # What a centre crop of the paper's proportions would have seen of it: nothing.
    cropped = load_encoder(EncoderSettings(resize=73, crop=64)).transform.frame(image.size)
    assert cropped.box[2] < 2950


@pytest.mark.parametrize("size", [(64_000_000, 1), (8000, 8000), (2**31, 2**31)])
def test_too_many_tiles_are_refused_before_any_is_made(size: tuple[int, int]) -> None:
    with pytest.raises(TooLargeError, match=rf"^an image of {size[0]}×{size[1]} pixels takes [\d,]+ tiles of 128 "):
        Tiling(128).windows(size)


def test_the_largest_images_fit_in_tiles_of_512() -> None:
    shapes = [(8000, 8000), *((round((MAX_PIXELS * r) ** 0.5), int((MAX_PIXELS / r) ** 0.5)) for r in range(1, 101))]
    assert len(Tiling(512).windows((8000, 8000))) == 441
    assert max(len(Tiling(512).windows(size)) for size in shapes) < 600
    assert len(Tiling(256).windows((6000, 4000))) == 651
    # As many pixels of the blended map as of the tiles' maps, at most: what MAX_TILES bounds.
    for size in shapes:
        rows, columns = Tiling(512).frame(size).shape
        assert rows * columns <= len(Tiling(512).windows(size)) * 256 * 256


def test_pictures_of_too_many_tiles_are_all_named_before_any_is_encoded(tmp_path: Path) -> None:
    manifest = noise_parts(tmp_path, 4)
    rows = list(manifest.rows)
    large = [replace(rows[0], width=64_000), replace(rows[-1], height=64_000, width=64_000)]
    with pytest.raises(UserError, match="2 problems") as error:
        check_tiles(replace(manifest, rows=[*large, *rows[1:-1]]), Tiling(16))
    assert all(row.path in str(error.value) for row in large)
    check_tiles(manifest, Tiling(16))
    check_tiles(replace(manifest, rows=large), None)
