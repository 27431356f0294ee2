"""The stage features: each image through the encoder once, whoever asks and whatever interrupts."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inpformer.encoders.encoder import Encoder
from inpformer.errors import StaleFeaturesError, UserError
from inpformer.features.shard import key_array
from inpformer.features.view_table import Views
from inpformer.images.deep import WHITE, DeepPicture
from inpformer.images.opening import open_as_it_is
from inpformer.images.tiling import Tiling
from inpformer.methods import METHODS
from pipelines.features import encode
from pipelines.features.index import (
    FeatureIndex,
    compute_features,
    good_views,
    read_index,
    row_views,
    wanted_views,
    write_index,
)
from pipelines.features.settings import FeatureSettings
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import Manifest, StoredRows, read_manifest, write_manifest
from pipelines.training.features import training_features
from tests.conftest import OWN
from tests.images.deep_files import png, values


@pytest.fixture
def settings(tmp_path: Path, encoder: Encoder) -> FeatureSettings:
    return FeatureSettings(encoder.settings, store=str(tmp_path / "store"), batch_size=4)


def stored(settings: FeatureSettings, index: FeatureIndex) -> Views:
    return training_features(settings, index).open()


def place(manifest: Manifest, settings: FeatureSettings, key: str) -> int:
    """The number of the training view with that key."""
    wanted = wanted_views(manifest, good_views(manifest, settings.tiling, WHITE))
    return int(np.searchsorted(wanted.keys[wanted.split == 0], key_array([key]))[0])


def assert_levels(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.float(), other, rtol=2e-3, atol=2e-3)


class CountingEncoder(Encoder):
    """Counts the views that go through it; breaks off before the one numbered `stop`."""

    def __init__(self, encoder: Encoder, stop: int = 10**9) -> None:
        super().__init__(encoder.settings, encoder.network, encoder.transform)
        self.count, self.stop = 0, stop

    def features(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        if self.count + len(pixels) > self.stop:
            raise KeyboardInterrupt
        self.count += len(pixels)
        return super().features(pixels)


def test_features_are_what_the_encoder_says(manifest: Manifest, settings: FeatureSettings, encoder: Encoder) -> None:
    views = stored(settings, compute_features(manifest, encoder, settings))
    row = manifest.split("train")[5]
    features = views.read("train", [place(manifest, settings, row.sha256)])
    with Image.open(manifest.root / row.path) as image:
        assert_levels(features, encoder.encode([image]))


def test_what_one_method_wants_takes_less_room_and_is_what_it_makes_of_all(
    manifest: Manifest, settings: FeatureSettings, encoder: Encoder
) -> None:
    kept = METHODS["inp_former"].wants(OWN, encoder.shape)
    index = compute_features(manifest, encoder, settings, kept)
    part, whole = stored(settings, index), stored(settings, compute_features(manifest, encoder, settings))
    assert index.kept == kept
    assert [(level.side, level.channels) for level in part.levels] == [(4, 496)]
    assert_levels(part.read("train", range(5)), kept.of(whole.read("train", range(5))))
    # Both lie side by side in the store.
    sizes = [file.stat().st_size for file in Path(settings.store).glob("*/*.safetensors")]
    assert len(sizes) == 2
    assert min(sizes) < 0.7 * max(sizes)


def test_a_second_run_computes_nothing(manifest: Manifest, settings: FeatureSettings, encoder: Encoder) -> None:
    first, second = CountingEncoder(encoder), CountingEncoder(encoder)
    index = compute_features(manifest, first, settings)
    assert compute_features(manifest, second, settings) == index
    assert (first.count, second.count) == (12, 0)  # the test images are not encoded


def test_a_killed_run_goes_on(
    manifest: Manifest, settings: FeatureSettings, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "SHARD_IMAGES", 4)
    with pytest.raises(KeyboardInterrupt):
        compute_features(manifest, CountingEncoder(encoder, stop=9), settings)
    again = CountingEncoder(encoder)
    compute_features(manifest, again, settings)
    assert again.count == 4
    assert not list(Path(settings.store).rglob("*.tmp"))


def test_a_damaged_shard_is_refused_then_computed_again(
    manifest: Manifest, settings: FeatureSettings, encoder: Encoder
) -> None:
    index = compute_features(manifest, encoder, settings)
    shard = next(Path(settings.store).rglob("*.safetensors"))
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(StaleFeaturesError, match="is damaged: remove it if it is there and compute the features again"):
        stored(settings, index).read("train", range(10))
    again = CountingEncoder(encoder)
    assert compute_features(manifest, again, settings) == index
    assert again.count == 12
    assert {len(level) for level in stored(settings, index).read("train", range(10))} == {10}


def test_an_image_that_changed_does_not_enter_the_store(
    manifest: Manifest, settings: FeatureSettings, encoder: Encoder
) -> None:
    path = manifest.root / manifest.split("train")[0].path
    Image.new("RGB", (40, 40)).save(path)
    with pytest.raises(UserError, match=f"{path.name} changed since the manifest was made"):
        compute_features(manifest, encoder, settings)
    path.unlink()
    with pytest.raises(UserError, match=f"{path.name} cannot be read"):
        compute_features(manifest, encoder, settings)


def test_an_emptied_store_is_refused(manifest: Manifest, settings: FeatureSettings, encoder: Encoder) -> None:
    index = compute_features(manifest, encoder, settings)
    next(Path(settings.store).glob("*/*.safetensors")).unlink()
    with pytest.raises(StaleFeaturesError, match="is missing or cut off"):
        stored(settings, index).refuse_missing()
    shutil.rmtree(settings.store)
    with pytest.raises(StaleFeaturesError, match="lacks the features of this data set: compute them again"):
        stored(settings, index)


def test_defective_validation_images_are_none_to_learn_from(
    manifest: Manifest, settings: FeatureSettings, encoder: Encoder
) -> None:
    rows = [replace(row, split="val") if row.label else row for row in manifest.rows]
    assert compute_features(replace(manifest, rows=rows), encoder, settings).views == 12


def test_a_manifest_from_its_file_streams(
    manifest: Manifest, settings: FeatureSettings, encoder: Encoder, tmp_path: Path
) -> None:
    write_manifest(manifest, tmp_path / "manifest.parquet")
    read = read_manifest(tmp_path / "manifest.parquet")
    assert isinstance(read.rows, StoredRows)
    assert list(read.rows) == manifest.rows
    assert (len(read.rows), read.categories) == (14, ["nut"])
    assert compute_features(read, encoder, settings) == compute_features(manifest, encoder, settings)


def test_the_index_survives_the_file(
    manifest: Manifest, settings: FeatureSettings, encoder: Encoder, tmp_path: Path
) -> None:
    index = compute_features(manifest, encoder, settings)
    write_index(index, tmp_path / "features.json")
    assert read_index(tmp_path / "features.json") == index
    (tmp_path / "features.json").write_text("{}")
    with pytest.raises(UserError, match="encoder is missing"):
        read_index(tmp_path / "features.json")


def test_few_shot_encodes_22_forms_of_each_training_image_and_one_of_the_held_out(
    manifest: Manifest, settings: FeatureSettings, encoder: Encoder
) -> None:
    few = replace(manifest, shots=2, rows=[*manifest.split("train")[:2], *manifest.split("val")])
    counting = CountingEncoder(encoder)
    index = compute_features(few, counting, settings)
    assert index.views == counting.count == 2 * 22 + 2
    assert compute_features(few, CountingEncoder(encoder, stop=0), settings) == index


def with_deep(manifest: Manifest, count: int) -> Manifest:
    """Of its good training images the first ones in 12 of 16 bits a channel instead."""
    for number, row in enumerate(manifest.split("train")[:count]):
        (manifest.root / row.path).write_bytes(png(values(40, 40, 3, most=4095, seed=number)))
    return build_manifest(manifest.root, ManifestSettings("unused"))


def of_white(encoder: Encoder, white: int) -> CountingEncoder:
    settings, transform = replace(encoder.settings, white=white), replace(encoder.transform, white=white)
    return CountingEncoder(Encoder(settings, encoder.network, transform))


def test_another_white_encodes_pictures_of_sixteen_bits_alone(
    manifest: Manifest, settings: FeatureSettings, encoder: Encoder
) -> None:
    mixed = with_deep(manifest, 3)
    deep = [row for row in mixed.rows if row.largest]
    assert len(deep) == 3
    found = []
    for white in (WHITE, 4095, 1023, 4095):
        counting = of_white(encoder, white)
        found.append((compute_features(mixed, counting, settings), counting.count))
    assert [count for _, count in found] == [12, 3, 3, 0]
    tables = [index.table for index, _ in found]
    assert (len(set(tables)), tables[1]) == (3, tables[3])
    assert [index.encoder.white for index, _ in found] == [WHITE, 4095, 1023, 4095]
    assert len({index.encoder_key for index, _ in found}) == 1


def test_features_of_sixteen_bits_are_those_of_what_the_rule_makes_of_them(
    manifest: Manifest, settings: FeatureSettings, encoder: Encoder
) -> None:
    mixed, small = with_deep(manifest, 3), of_white(encoder, 4095)
    index = compute_features(mixed, small, settings)
    (row, *_) = (row for row in mixed.split("train") if row.largest)
    (view,) = row_views(row, None, None, 4095)
    assert view.key(row.sha256) != row.sha256
    wanted = wanted_views(mixed, good_views(mixed, None, 4095))
    at = int(np.searchsorted(wanted.keys[wanted.split == 0], key_array([view.key(row.sha256)]))[0])
    pixels = open_as_it_is(mixed.root / row.path, "it")
    assert isinstance(pixels, DeepPicture)
    assert_levels(stored(settings, index).read("train", [at]), encoder.encode([pixels.eight_bits(4095)]))


def test_a_store_that_was_there_before_the_setting_stays_valid(manifest: Manifest, encoder: Encoder) -> None:
    (keys,) = ({view.key(row.sha256) for view in row_views(row, None, None, 4095)} for row in manifest.rows[:1])
    assert keys == {manifest.rows[0].sha256}  # as it was
    tile = row_views(manifest.rows[0], Tiling(30, 0.0), None, 4095)[1]
    text = f"{manifest.rows[0].sha256} window {tile.window} form 0"
    assert tile.key(manifest.rows[0].sha256) == hashlib.sha256(text.encode()).hexdigest()
    asked = {
        "format": 2,
        "name": encoder.settings.name,
        "digest": encoder.digest,
        "taps": [4, 8, 16, 32],
        "transform": {"resize": 64, "crop": 64, "mean": encoder.transform.mean, "std": encoder.transform.std},
    }
    assert encoder.key == hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    assert of_white(encoder, 4095).key == encoder.key


def test_tiles_are_views_of_their_own(manifest: Manifest, settings: FeatureSettings, encoder: Encoder) -> None:
    tiled = replace(settings, tiling=Tiling(30, 0.0))  # 40 pixel images: two tiles a side
    counting = CountingEncoder(encoder)
    assert compute_features(manifest, counting, tiled).views == counting.count == 12 * 4
    row = manifest.split("train")[0]
    last = row_views(row, tiled.tiling, None, WHITE)[-1]
    views = stored(tiled, compute_features(manifest, encoder, tiled))
    features = views.read("train", [place(manifest, tiled, last.key(row.sha256))])
    with Image.open(manifest.root / row.path) as image:
        corner = encoder.encode([image.crop((10, 10, 40, 40))])
    assert_levels(features, corner)
