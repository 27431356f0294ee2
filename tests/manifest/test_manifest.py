"""Taking stock: what the manifest holds, and how it refuses data that is broken."""

import csv
import hashlib
import itertools
import json
import os
import re
import shutil
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from inpformer.errors import UserError
from inpformer.images.deep import WHITE
from inpformer.images.opening import open_image
from pipelines.manifest.build import build_manifest, describe, read_mask, read_regions
from pipelines.manifest.few import few_images
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import Manifest, Row, read_manifest, write_manifest
from tests.conftest import SHARED_DATA
from tests.images.deep_files import LZW, png, pnm, tiff, values
from tests.images.test_opening import deep_png


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
    for settings in (SETTINGS, replace(SETTINGS, shots=3, part=r"train/good/(\d+)")):
        manifest = build_manifest(data, settings)
        write_manifest(manifest, tmp_path / "manifest.parquet")
        read = read_manifest(tmp_path / "manifest.parquet")
        assert replace(read, rows=list(read.rows)) == manifest
        assert (manifest.layout, manifest.shots, manifest.data_sets) == ("mvtec", settings.shots, [])


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
    Image.fromarray(np.full((10, 12), 70000, np.int32)).save(data / "nut/train/good/5.tif")
    (data / "nut/train/good/6.png").write_bytes(deep_png(6, 4))
    with pytest.raises(UserError, match="5 problems") as error:
        build_manifest(data, SETTINGS)
    for name in (
        "good/5.tif has more than 8 bits a channel",
        "good/6.png has more than 8 bits a channel",
        "good/3.png",
        "good/4.png is not an image in one of the formats",
        "0_mask.png: the mask is 6×5",
    ):
        assert name in str(error.value)


def test_pictures_of_sixteen_bits_are_taken_with_their_largest_value(data: Path, tmp_path: Path) -> None:
    grey, colour = values(10, 12, most=4095), values(10, 12, 3, most=900)
    files = {"20.png": png(grey), "21.tif": tiff(grey, ">", LZW), "22.pgm": pnm(grey), "23.ppm": pnm(colour)}
    for name, content in files.items():
        (data / "nut/train/good" / name).write_bytes(content)
    (data / "nut/test/chip/0.png").write_bytes(png(values(10, 12)))
    manifest = build_manifest(data, SETTINGS)
    write_manifest(manifest, tmp_path / "m.parquet")
    found = {Path(row.path).name: row for row in read_manifest(tmp_path / "m.parquet").rows if row.largest}
    largest = {"0.png": 65535, "20.png": 4095, "21.tif": 4095, "22.pgm": 4095, "23.ppm": 900}
    assert {name: row.largest for name, row in found.items()} == largest
    assert {row.white(4095) for row in manifest.rows} == {4095, None}
    for name, white in itertools.product(found, (WHITE, 4095)):  # what is taken here the rest opens
        row = found[name]
        assert open_image(data / row.path, name, white).size == (row.width, row.height) == (12, 10)


def test_a_mask_of_sixteen_bits_is_refused(data: Path) -> None:
    Image.fromarray(np.full((10, 12), 65535, np.uint16)).save(data / "nut/ground_truth/chip/0_mask.png")
    with pytest.raises(UserError, match=r"1 problem,.*\n .*0_mask\.png has more than 8 bits .*: convert it to 8 bit"):
        build_manifest(data, SETTINGS)


def test_a_manifest_that_an_older_version_keeps_is_read(data: Path, tmp_path: Path) -> None:
    manifest = build_manifest(data, SETTINGS)
    write_manifest(manifest, tmp_path / "m.parquet")
    pq.write_table(pq.read_table(tmp_path / "m.parquet").drop_columns("largest"), tmp_path / "old.parquet")
    assert list(read_manifest(tmp_path / "old.parquet").rows) == list(manifest.rows)


def test_the_digest_is_that_of_before_later_columns(tmp_path: Path) -> None:
    for name in "abcd":  # of few bytes, which no library changes
        (tmp_path / f"{name}.pgm").write_bytes(b"P5 1 1 255\n" + name.encode())
    (tmp_path / "samples.csv").write_text(
        "path,split,defect\na.pgm,train,good\nb.pgm,train,good\nc.pgm,test,good\nd.pgm,test,dent\n"
    )
    manifest = build_manifest(tmp_path, SETTINGS)
    digest = hashlib.sha256()
    for row in manifest.rows:
        before = {name: value for name, value in asdict(row).items() if name not in ("largest", "saturations")}
        digest.update(json.dumps([before, []]).encode())
    assert manifest.digest == digest.hexdigest()


def test_what_the_folders_lack_and_what_the_files_are_is_one_list(data: Path) -> None:
    picture(data / "nut/test/chip/1.png", 102)  # no mask
    picture(data / "nut/test/chip/2.png", 103)
    picture(data / "nut/ground_truth/chip/2_mask.png", 0, size=(6, 5), mode="L")
    truncated = data / "nut/train/good/3.png"
    truncated.write_bytes(truncated.read_bytes()[:60])
    with pytest.raises(UserError, match="3 problems") as error:
        build_manifest(data, SETTINGS)
    lines = [line.strip().replace(f"{data}/nut/", "") for line in str(error.value).splitlines()[1:]]
    names = ("test/chip/1.png", "ground_truth/chip/2_mask.png", "train/good/3.png")
    assert sorted(name for name in names for line in lines if line.startswith(name)) == sorted(names)


def test_an_image_and_its_mask_are_both_looked_at(data: Path) -> None:
    for name in ("test/chip/0.png", "ground_truth/chip/0_mask.png"):
        (data / "nut" / name).write_text("no picture")
    with pytest.raises(UserError, match="2 problems"):
        build_manifest(data, SETTINGS)


def test_a_listed_file_that_is_missing_or_outside_is_told_once_and_never_opened(data: Path) -> None:
    os.mkfifo(data.parent / "pipe")  # whoever opens it waits for ever
    (data / "samples.csv").write_text(
        "path,split,defect,mask\nnut/train/good/0.png,,,\nnut/test/good/0.png,test,,\ngone.png,,,\n"
        "../pipe,,,\nnut/test/chip/0.png,,chip,../pipe\n"
    )
    (data / "nut/train/good/0.png").write_text("no picture")
    with pytest.raises(UserError, match="4 problems") as error:
        build_manifest(data, SETTINGS)
    assert [str(error.value).count(name) for name in ("gone.png:", "pipe:", "good/0.png is")] == [1, 2, 1]


def test_many_broken_files_are_counted(data: Path) -> None:
    for number in range(8):
        (data / f"nut/train/good/{number}.png").write_text("no picture")
    with pytest.raises(UserError, match="8 problems") as error:
        build_manifest(data, SETTINGS)
    lines = str(error.value).splitlines()
    assert (len(lines), "5 more" in lines[-1]) == (5, True)


def test_categories_that_cannot_be_split_are_told_together(data: Path) -> None:
    shutil.copytree(data / "nut", data / "bolt")
    for category in ("nut", "bolt"):
        for file in list((data / category / "train/good").iterdir())[1:]:
            file.unlink()
    with pytest.raises(UserError, match="2 problems"):
        build_manifest(data, SETTINGS)
    for category in ("nut", "bolt"):
        picture(data / category / "train/good/more.png", 55)
    with pytest.raises(UserError, match="2 problems"):
        build_manifest(data, replace(SETTINGS, shots=9))


def test_one_good_image_is_too_few(data: Path) -> None:
    for file in list((data / "nut/train/good").iterdir())[1:]:
        file.unlink()
    with pytest.raises(UserError, match="category nut: it has one good training image"):
        build_manifest(data, SETTINGS)


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_text("nothing")
    with pytest.raises(UserError, match="run `dvc repro manifest`"):
        read_manifest(tmp_path / "m.parquet")


def test_impossible_fraction_is_refused() -> None:
    with pytest.raises(UserError, match=r"val_fraction is 1\.5"):
        ManifestSettings(data="d", val_fraction=1.5)


@pytest.mark.parametrize("part", ["(", "no group"])
def test_an_expression_that_names_no_part_is_refused(part: str) -> None:
    with pytest.raises(UserError, match=r"part is .* must be a regular expression whose first group names the part"):
        ManifestSettings(data="d", part=part)


def test_an_unknown_layout_and_no_shots_are_refused() -> None:
    with pytest.raises(UserError, match="layout is 'coco': it must be one of auto, mvtec, "):
        ManifestSettings(data="d", layout="coco")
    with pytest.raises(UserError, match="shots is 0: it must be null or at least 1"):
        ManifestSettings(data="d", shots=0)


def split_of(manifest: Manifest) -> dict[str, str]:
    """Each training or validation image's split, by its file's stem."""
    return {Path(row.path).stem: row.split for row in manifest.rows if row.split != "test"}


def test_views_of_a_part_go_to_one_side(data: Path) -> None:
    folder = data / "nut/train/good"
    for number in range(10):
        (folder / f"{number}.png").rename(folder / f"{number}_front.png")
        picture(folder / f"{number}_back.png", 200 + number)
    shutil.copy(folder / "3_back.png", folder / "copy.png")  # without a part of its own
    manifest = build_manifest(data, replace(SETTINGS, part=r"(\d+)_(?:front|back)"))
    split = split_of(manifest)
    sides = {number: {split[f"{number}_front"], split[f"{number}_back"]} for number in range(10)}
    assert Counter(side for (side,) in sides.values()) == {"train": 8, "val": 2}
    assert {split["copy"]} == sides[3]
    assert {row.part for row in manifest.split("test")} == {""}
    smallest = {}
    for row in manifest.rows:
        smallest[row.part] = min(row.sha256, smallest.get(row.part, row.sha256))
    chosen = {row.part for row in manifest.split("val")} - {""}
    assert chosen == set(sorted((part for part in smallest if part), key=lambda part: smallest[part])[:2])


def test_a_part_on_two_sides_is_refused(data: Path) -> None:
    with pytest.raises(UserError) as caught:
        build_manifest(data, replace(SETTINGS, part=r"(\d+)\.png$"))
    first, line = str(caught.value).splitlines()
    assert first.startswith("the data has 1 problem")
    assert "category nut, part 0: it is in " in line
    assert "in test (nut/test/chip/0.png)" in line


def test_one_part_alone_is_too_few_and_an_expression_that_fits_nothing_is_refused(data: Path) -> None:
    with pytest.raises(UserError, match="category nut: it has good training images of one part only"):
        build_manifest(data, replace(SETTINGS, part=r"(train)"))
    with pytest.raises(UserError, match=r"manifest\.part 'expE_\(\\\\d\+\)' fits none of the 12 paths, e\.g\. nut/"):
        build_manifest(data, replace(SETTINGS, part=r"expE_(\d+)"))


def test_validation_images_of_ones_own_are_kept_and_none_are_cut(data: Path) -> None:
    shutil.copytree(data / "nut", data / "bolt")
    for number in range(3):
        picture(data / f"nut/validation/good/{number}.png", 300 + number)
    counts = Counter((row.category, row.split) for row in build_manifest(data, SETTINGS).rows)
    assert (counts["nut", "train"], counts["nut", "val"]) == (10, 3)
    assert (counts["bolt", "train"], counts["bolt", "val"]) == (8, 2)


def test_few_shots_are_chosen_by_content_after_validation_is_cut(data: Path) -> None:
    everything = build_manifest(data, SETTINGS)
    shutil.copy(data / "nut/train/good/0.png", data / "nut/train/good/copy.png")
    few = build_manifest(data, replace(SETTINGS, shots=4))
    train = [row.sha256 for row in few.split("train")]
    assert sorted(train) == sorted({row.sha256 for row in everything.split("train")})[:4]
    assert {row.sha256 for row in few.split("val")} == {row.sha256 for row in everything.split("val")}
    assert few.split("test") == everything.split("test")
    assert few.digest != everything.digest
    assert build_manifest(data, replace(SETTINGS, shots=4)) == few
    with pytest.raises(UserError, match=r"category nut: it has 8 different training images left after validation"):
        build_manifest(data, replace(SETTINGS, shots=9))


def loco(root: Path) -> Path:
    """A category of MVTec LOCO whose one defect has two masks of class numbers."""
    for number in range(4):
        picture(root / f"box/train/good/{number}.png", number)
    picture(root / "box/validation/good/0.png", 10)
    picture(root / "box/test/good/0.png", 11)
    picture(root / "box/test/logical_anomalies/0.png", 12)
    (root / "box/ground_truth/logical_anomalies/0").mkdir(parents=True)
    for number, columns in enumerate((slice(0, 2), slice(1, 5))):
        mask = np.zeros((10, 12), np.uint8)
        mask[3, columns] = number + 1
        Image.fromarray(mask).save(root / f"box/ground_truth/logical_anomalies/0/{number:03}.png")
    return root


def test_the_masks_of_an_image_are_united(tmp_path: Path) -> None:
    manifest = build_manifest(loco(tmp_path), SETTINGS)
    good, bad = sorted(manifest.split("test"), key=lambda row: row.label)
    assert (manifest.layout, len(bad.masks), bad.mask_level, bad.mask_pixels) == ("loco", 2, 0, 5)
    mask = read_mask(manifest.root, bad)
    assert (mask.mode, mask.size) == ("L", (12, 10))
    assert [tuple(place) for place in np.argwhere(np.asarray(mask) == 255)] == [(3, column) for column in range(5)]
    assert np.count_nonzero(np.asarray(mask)) == 5
    none = read_mask(manifest.root, good)
    assert (none.mode, none.size, none.getextrema()) == ("L", (12, 10), (0, 0))


def saturate(root: Path, threshold: float, values: tuple[int, ...] = (1, 2)) -> None:
    """Says how many of the pixels of each class number are enough."""
    kinds = [
        {"defect_name": f"{v}", "pixel_value": v, "saturation_threshold": threshold, "relative_saturation": False}
        for v in values
    ]
    (root / "box/defects_config.json").write_text(json.dumps(kinds))


def test_masks_with_saturations_are_regions_of_their_own(tmp_path: Path) -> None:
    plain = build_manifest(loco(tmp_path), SETTINGS)
    saturate(tmp_path, 3)
    manifest = build_manifest(tmp_path, SETTINGS)
    bad = next(row for row in manifest.rows if row.label)
    # The masks mark two and four pixels.
    assert bad.saturations == [1.0, 0.75]
    assert not any(row.saturations for row in (*plain.rows, *manifest.rows) if row != bad)
    first, second = (np.asarray(region) for region in read_regions(manifest.root, bad))
    assert [(int(r.min()), int(r.max()), np.count_nonzero(r)) for r in (first, second)] == [(0, 255, 2), (0, 255, 4)]
    assert "box: how much of each defect is enough is known" in describe(manifest)
    write_manifest(manifest, tmp_path / "manifest.parquet")
    assert list(read_manifest(tmp_path / "manifest.parquet").rows) == manifest.rows
    saturate(tmp_path, 2)
    digests = {plain.digest, manifest.digest, build_manifest(tmp_path, SETTINGS).digest}
    assert len(digests) == 3


def test_a_mask_of_no_kind_of_defect_or_of_two_is_refused(tmp_path: Path) -> None:
    saturate(loco(tmp_path), 3, (1, 7))
    two = np.zeros((10, 12), np.uint8)
    two[0, :2] = 7, 1
    masks = tmp_path / "box/ground_truth/logical_anomalies/0"
    Image.fromarray(two).save(masks / "000.png")
    with pytest.raises(UserError, match="the data has 2 problems") as caught:
        build_manifest(tmp_path, SETTINGS)
    assert f"{masks / '000.png'}: it holds 1, 7: a mask is one region" in str(caught.value)
    assert f"{masks / '001.png'}: it holds 2, which no pixel_value of its category is: 1, 7" in str(caught.value)


def test_a_mask_that_changed_or_broke_is_named(tmp_path: Path) -> None:
    manifest = build_manifest(loco(tmp_path), SETTINGS)
    row = next(row for row in manifest.rows if row.masks)
    second = tmp_path / row.masks[1]
    picture(second, 0, size=(6, 5), mode="L")
    with pytest.raises(UserError, match=r"0/001\.png changed since the manifest was made"):
        read_mask(manifest.root, row)
    second.write_text("no picture")
    with pytest.raises(UserError, match=r"0/001\.png is not an image"):
        read_mask(manifest.root, row)


def test_the_digest_covers_roles_parts_masks_and_their_level(data: Path) -> None:
    table = data / "samples.csv"

    def digest(**changed: str) -> str:
        rows = [{"path": f"nut/train/good/{n}.png"} for n in range(10)]
        rows += [{"path": "nut/test/good/0.png", "split": "test"}]
        rows += [{"path": "nut/test/chip/0.png", "defect": "anomaly", **changed}]
        with table.open("w", newline="") as f:
            writer = csv.DictWriter(f, ("path", "category", "split", "defect", "mask", "part"))
            writer.writeheader()
            writer.writerows({"category": "nut", **row} for row in rows)
        return build_manifest(data, SETTINGS).digest

    mask = {"mask": "nut/ground_truth/chip/0_mask.png"}
    found = [digest(), digest(defect="dent"), digest(part="p"), digest(**mask, part="p"), digest(**mask)]
    assert digest() == found[0]
    found.append(build_manifest(data, replace(SETTINGS, val_fraction=0.4)).digest)
    # The same images in the same roles, but this layout's masks hold class numbers.
    lines = ["object,split,label,image,mask", *(f"nut,train,normal,nut/train/good/{n}.png," for n in range(10))]
    lines += ["nut,test,normal,nut/test/good/0.png,", f"nut,test,anomaly,nut/test/chip/0.png,{mask['mask']}"]
    (data / "split_csv").mkdir()
    (data / "split_csv/1cls.csv").write_text("\n".join(lines))
    found.append(build_manifest(data, replace(SETTINGS, layout="visa")).digest)
    assert len(set(found)) == 7


def test_a_parquet_table_is_read_like_a_csv_one(data: Path) -> None:
    rows = [{"path": f"nut/train/good/{n}.png", "category": "nut", "split": None} for n in range(10)]
    rows += [{"path": "nut/test/good/0.png", "category": "nut", "split": "test"}]
    rows += [{"path": "nut/test/chip/0.png", "category": "nut", "defect": "chip"}]
    pq.write_table(pa.Table.from_pylist([{"defect": None, **row} for row in rows]), data / "samples.parquet")
    manifest = build_manifest(data, SETTINGS)
    assert (manifest.root, manifest.layout) == (data, "table")
    assert Counter((row.category, row.split) for row in manifest.rows) == {
        ("nut", "train"): 8,
        ("nut", "val"): 2,
        ("nut", "test"): 2,
    }
    with pytest.raises(
        UserError, match=r"samples\.parquet is a file: name its folder in manifest\.data, where a table"
    ):
        build_manifest(data / "samples.parquet", SETTINGS)
    (data / "samples.parquet").write_text("nothing")
    with pytest.raises(UserError, match=r"samples\.parquet cannot be read as a Parquet file"):
        build_manifest(data, SETTINGS)


def test_what_was_found_is_said_category_by_category(data: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    both.mkdir()
    data.rename(both / "mine")
    loco(both / "loco")
    manifest = build_manifest(both, SETTINGS)
    assert manifest.data_sets == ["loco", "mine"]
    assert describe(manifest).splitlines() == [
        f"{both}: layout loco is loco; mine is mvtec, 19 images, 2 categories",
        "category  train  val  test good  test defective  masks  kinds of defect",
        "loco/box      4    1          1               1      2  logical_anomalies",
        "mine/nut      8    2          1               1      1  chip",
        f"loco/box: {few_images(manifest.rows)['loco/box']}",
        f"mine/nut: {few_images(manifest.rows)['mine/nut']}",
    ]


def test_very_few_images_are_told_with_numbers(data: Path) -> None:
    for number in range(3, 10):
        (data / f"nut/train/good/{number}.png").unlink()
    shutil.copy(data / "nut/train/good/0.png", data / "nut/train/good/copy.png")  # counts once
    manifest = build_manifest(data, SETTINGS)
    (said,) = few_images(manifest.rows).values()
    assert [int(number) for number in re.findall(r"\d+", said)] == [2, 1, 1, 50, 17]
    assert describe(manifest).splitlines()[-1] == f"nut: {said}"
    assert "nut:" not in describe(build_manifest(data, replace(SETTINGS, shots=2)))
    for number in range(3, 19):
        picture(data / f"nut/train/good/{number}.png", number)
    assert list(few_images(build_manifest(data, SETTINGS).rows)) == ["nut"]  # 19
    picture(data / "nut/train/good/19.png", 19)
    assert few_images(build_manifest(data, SETTINGS).rows) == {}


def test_images_without_masks_are_counted_aloud(data: Path) -> None:
    shutil.rmtree(data / "nut/ground_truth")
    manifest = build_manifest(data, SETTINGS)
    assert [(row.defect, row.masks, row.mask_pixels) for row in manifest.rows if row.label] == [("chip", [], 0)]
    assert "nut: defective images without a mask: 1" in describe(manifest)


@pytest.mark.shared
def test_the_photographs_as_a_manifest(tmp_path: Path) -> None:
    manifest = build_manifest(SHARED_DATA / "cookie", SETTINGS)
    assert (manifest.layout, manifest.data_sets) == ("mvtec", [])
    assert Counter(row.split for row in manifest.rows) == {"train": 25, "val": 6, "test": 46}
    assert all(row.mask_pixels > 0 for row in manifest.rows if row.label)
