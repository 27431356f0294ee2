"""Taking stock: what the manifest holds, and how it refuses data that is broken."""

import csv
import hashlib
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpformer.errors import UserError
from pipelines.manifest import (
    Manifest,
    ManifestSettings,
    Row,
    build_manifest,
    describe,
    read_manifest,
    read_mask,
    write_manifest,
)
from tests.conftest import SHARED_DATA


def picture(file: Path, seed: int, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(file)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten good training images of nuts, two test images, one of them chipped."""
    root = tmp_path / "data"
    for number in range(10):
        picture(root / f"nut/train/good/{number}.png", number)
    picture(root / "nut/test/good/0.png", 100)
    picture(root / "nut/test/chip/0.png", 101)
    mask = np.zeros((10, 12), np.uint8)
    mask[2:4, 3:6] = 255
    (root / "nut/ground_truth/chip").mkdir(parents=True)
    Image.fromarray(mask).save(root / "nut/ground_truth/chip/0_mask.png")
    return root


SETTINGS = ManifestSettings(data="unused", val_fraction=0.2)


def test_every_image_has_its_row(data: Path) -> None:
    rows = build_manifest(data, SETTINGS).rows
    assert Counter(row.split for row in rows) == {"train": 8, "val": 2, "test": 2}
    chip = next(row for row in rows if row.label)
    digest = hashlib.sha256((data / "nut/test/chip/0.png").read_bytes()).hexdigest()
    masks = ["nut/ground_truth/chip/0_mask.png"]
    assert chip == Row("nut/test/chip/0.png", "nut", "test", 1, "chip", masks, 127, 6, 12, 10, digest, "")


def test_the_table_survives_the_file(data: Path, tmp_path: Path) -> None:
    for settings in (SETTINGS, replace(SETTINGS, shots=3, part=r"(\d+)\.png")):
        shutil.rmtree(data / "nut/test/good", ignore_errors=True)
        picture(data / "nut/test/good/77.png", 100)
        chip, mask = data / "nut/test/chip/0.png", data / "nut/ground_truth/chip/0_mask.png"
        manifest = build_manifest(data, SETTINGS)
        write_manifest(manifest, tmp_path / "manifest.parquet")
        assert read_manifest(tmp_path / "manifest.parquet") == manifest


def test_val_is_cut_by_content_not_by_name(data: Path) -> None:
    before = {row.sha256 for row in build_manifest(data, SETTINGS).split("val")}
    folder = data / "nut/train/good"
    for file in sorted(folder.iterdir()):
        file.rename(folder / f"renamed{9 - int(file.stem)}.png")
    assert {row.sha256 for row in build_manifest(data, SETTINGS).split("val")} == before


def test_copies_of_an_image_stay_on_one_side(data: Path) -> None:
    for file in sorted((data / "nut/train/good").iterdir()):
        shutil.copy(file, file.with_name(f"copy{file.name}"))
    manifest = build_manifest(data, SETTINGS)
    sides = {side: {row.sha256 for row in manifest.split(side)} for side in ("train", "val")}
    assert len(manifest.split("val")) == 4
    assert not sides["train"] & sides["val"]


def test_the_digest_follows_the_content(data: Path) -> None:
    before = build_manifest(data, SETTINGS).digest
    assert build_manifest(data, SETTINGS).digest == before
    mask = data / "nut/ground_truth/chip/0_mask.png"
    Image.fromarray(np.full((10, 12), 255, np.uint8)).save(mask)
    assert build_manifest(data, SETTINGS).digest != before


def test_all_broken_files_are_named_at_once(data: Path) -> None:
    truncated = data / "nut/train/good/3.png"
    truncated.write_bytes(truncated.read_bytes()[:60])
    (data / "nut/train/good/4.png").write_text("no picture")
    picture(data / "nut/ground_truth/chip/0_mask.png", 0, size=(6, 5), mode="L")
    Image.fromarray(np.full((10, 12), 4095, np.uint16)).save(data / "nut/train/good/5.png")
    with pytest.raises(UserError, match="4 problems") as error:
        build_manifest(data, SETTINGS)
    for name in (
        "good/5.png has more than 8 bits a channel",
        "good/3.png",
        "good/4.png: it cannot be read (not an image)",
        "0_mask.png: the mask is 6×5",
    ):
        assert name in str(error.value)


def test_one_good_image_is_too_few(data: Path) -> None:
    for file in list((data / "nut/train/good").iterdir())[1:]:
        file.unlink()
    with pytest.raises(UserError, match="category nut has one good training image"):
        build_manifest(data, SETTINGS)


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_text("nothing")
    with pytest.raises(UserError, match="run `dvc repro manifest`"):
        read_manifest(tmp_path / "m.parquet")


def test_impossible_fraction_is_refused() -> None:
    with pytest.raises(UserError, match=r"val_fraction is 1\.5"):
        ManifestSettings(data="d", val_fraction=1.5)
