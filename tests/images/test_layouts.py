"""The layouts: what is found in each, how they are told apart, and that everything wrong is said at once."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpformer.errors import UserError
from inpformer.images.layouts import LAYOUTS, detect, read_data
from inpformer.images.layouts.masks import union
from inpformer.images.layouts.sample import Problem, Sample, category_fault, refuse_all
from tests.conftest import SHARED_DATA

OTHERS = "but others of its kind have: add it, or use a table, where masks may be missing"
NUT = (
    *("train/good/0.png", "train/good/1.png", "test/good/0.png"),
    *("test/scratch/0.png", "ground_truth/scratch/0_mask.png"),
)


def fill(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1, 1)).save(root / name)
    return root


def problems(root: Path, layout: str = "auto") -> list[str]:
    with pytest.raises(UserError) as caught:
        read_data(root, layout)
    first, *lines = str(caught.value).splitlines()
    assert first == f"the data has {len(lines)} problem{'s' if len(lines) > 1 else ''}, mend or remove:"
    return [line.strip().replace(f"{root}/", "") for line in lines]


def visa(root: Path, *lines: str) -> Path:
    """VisA's one-class split with these lines, and the files that they name."""
    (root / "split_csv").mkdir(parents=True)
    (root / "split_csv/1cls.csv").write_text("\n".join(("object,split,label,image,mask", *lines)))
    fill(root, *(name for line in lines for name in line.split(",")[3:] if name))
    return root


CANDLE = (
    "candle,train,normal,candle/Data/Images/Normal/0.JPG,",
    "candle,test,normal,candle/Data/Images/Normal/1.JPG,",
    "candle,test,anomaly,candle/Data/Images/Anomaly/0.JPG,candle/Data/Masks/Anomaly/0.png",
)


def real_iad(root: Path, lists: str = "realiad_jsons", images: str = "realiad_1024") -> Path:
    """A category "usb" whose two parts show two views each, and a defective part with one view that shows nothing."""
    views = {
        "train": [("OK", f"OK/S0001/usb_0001_OK_C{view}_1.jpg", None) for view in (1, 2)],
        "test": [
            ("OK", "OK/S0002/usb_0002_OK_C1_2.jpg", None),
            ("AK", "NG/AK/S0001/usb_0001_NG_AK_C1_3.jpg", "NG/AK/S0001/usb_0001_NG_AK_C1_3.png"),
            ("OK", "NG/AK/S0001/usb_0001_NG_AK_C2_3.jpg", None),
        ],
    }
    entries = {
        split: [{"category": "usb", "anomaly_class": c, "image_path": i, "mask_path": m} for c, i, m in part]
        for split, part in views.items()
    }
    (root / lists).mkdir(parents=True)
    content = {"meta": {"normal_class": "OK", "prefix": "usb/"}, **entries}
    (root / lists / "usb.json").write_text(json.dumps(content))
    fill(root / images / "usb", *(file for part in views.values() for _, *files in part for file in files if file))
    return root


# ---- each layout


def test_mvtec(tmp_path: Path) -> None:
    fill(tmp_path / "nut", *NUT)
    fill(tmp_path / "bolt", *NUT)
    fill(tmp_path, "readme/picture.png")
    found = read_data(tmp_path)
    assert (found.layout, found.root) == ("mvtec", tmp_path)
    assert [s.category for s in found.samples] == ["bolt"] * 4 + ["nut"] * 4
    nut = tmp_path / "nut"
    assert found.samples[4:] == [
        Sample(nut / "train/good/0.png", "nut", "train", "good", (), 127, ""),
        Sample(nut / "train/good/1.png", "nut", "train", "good", (), 127, ""),
        Sample(nut / "test/good/0.png", "nut", "test", "good", (), 127, ""),
        Sample(
            nut / "test/scratch/0.png", "nut", "test", "scratch", (nut / "ground_truth/scratch/0_mask.png",), 127, ""
        ),
    ]


def test_visa_converted_to_folders_is_mvtec_with_other_mask_names(tmp_path: Path) -> None:
    fill(tmp_path, "candle/train/good/0.JPG", "candle/test/good/1.JPG", "candle/test/bad/0.JPG")
    fill(tmp_path, "candle/ground_truth/bad/0.png")
    found = read_data(tmp_path)
    assert found.layout == "mvtec"
    assert found.samples[1].masks == (tmp_path / "candle/ground_truth/bad/0.png",)


def test_mvtec2_has_its_own_validation_and_its_private_images_are_left_out(tmp_path: Path) -> None:
    can = fill(
        tmp_path / "can",
        *("train/good/000_regular.png", "validation/good/000_regular.png", "test_private/000.png"),
        *("test_private_mixed/000_mixed.png", "test_public/good/000_regular.png"),
        *("test_public/good/000_shift_1.png", "test_public/bad/001_overexposed.png"),
        "test_public/ground_truth/bad/001_overexposed_mask.png",
    )
    found = read_data(tmp_path)
    assert found.layout == "mvtec2"
    mask = can / "test_public/ground_truth/bad/001_overexposed_mask.png"
    assert found.samples == [
        Sample(can / "train/good/000_regular.png", "can", "train", "good", (), 127, ""),
        Sample(can / "validation/good/000_regular.png", "can", "val", "good", (), 127, ""),
        Sample(can / "test_public/bad/001_overexposed.png", "can", "test", "bad", (mask,), 127, "bad/001"),
        Sample(can / "test_public/good/000_regular.png", "can", "test", "good", (), 127, "good/000"),
        Sample(can / "test_public/good/000_shift_1.png", "can", "test", "good", (), 127, "good/000"),
    ]


def test_loco_has_several_masks_an_image(tmp_path: Path) -> None:
    box = fill(
        tmp_path / "box",
        *("train/good/000.png", "validation/good/000.png", "test/good/000.png"),
        *("test/logical_anomalies/000.png", "test/structural_anomalies/000.png"),
        *("ground_truth/logical_anomalies/000/000.png", "ground_truth/logical_anomalies/000/001.png"),
        "ground_truth/structural_anomalies/000/000.png",
    )
    found = read_data(tmp_path)
    assert found.layout == "loco"
    logical = tuple(box / f"ground_truth/logical_anomalies/000/{name}.png" for name in ("000", "001"))
    structural = (box / "ground_truth/structural_anomalies/000/000.png",)
    assert found.samples == [
        Sample(box / "train/good/000.png", "box", "train", "good", (), 127, ""),
        Sample(box / "validation/good/000.png", "box", "val", "good", (), 127, ""),
        Sample(box / "test/good/000.png", "box", "test", "good", (), 0, ""),
        Sample(box / "test/logical_anomalies/000.png", "box", "test", "logical_anomalies", logical, 0, ""),
        Sample(box / "test/structural_anomalies/000.png", "box", "test", "structural_anomalies", structural, 0, ""),
    ]


def test_btad_calls_good_ok_and_its_masks_have_any_suffix(tmp_path: Path) -> None:
    one = fill(tmp_path / "01", "train/ok/0.bmp", "test/ok/0.bmp", "test/ko/0.bmp", "ground_truth/ko/0.png")
    fill(tmp_path / "03", "train/ok/0.bmp", "test/ok/0.bmp", "test/ko/0.bmp", "ground_truth/ko/0.bmp")
    fill(tmp_path / "03", "ground_truth/ok/0.bmp")  # empty masks of good images say nothing
    found = read_data(tmp_path)
    assert found.layout == "btad"
    assert found.samples[:3] == [
        Sample(one / "train/ok/0.bmp", "01", "train", "good", (), 127, ""),
        Sample(one / "test/ko/0.bmp", "01", "test", "ko", (one / "ground_truth/ko/0.png",), 127, ""),
        Sample(one / "test/ok/0.bmp", "01", "test", "good", (), 127, ""),
    ]
    assert [s.masks for s in found.samples[3:]] == [(), (tmp_path / "03/ground_truth/ko/0.bmp",), ()]


def test_visa_as_published(tmp_path: Path) -> None:
    found = read_data(visa(tmp_path, *CANDLE))
    data = tmp_path / "candle/Data"
    assert found.layout == "visa"
    assert found.samples == [
        Sample(data / "Images/Normal/0.JPG", "candle", "train", "good", (), 0, ""),
        Sample(data / "Images/Normal/1.JPG", "candle", "test", "good", (), 0, ""),
        Sample(data / "Images/Anomaly/0.JPG", "candle", "test", "anomaly", (data / "Masks/Anomaly/0.png",), 0, ""),
    ]


@pytest.mark.parametrize("lists", ["realiad_jsons", "realiad_jsons/realiad_jsons"])
@pytest.mark.parametrize("images", ["realiad_1024", "."])
def test_real_iad_views_of_a_sample_are_one_part(tmp_path: Path, lists: str, images: str) -> None:
    found = read_data(real_iad(tmp_path, lists, images))
    usb = tmp_path / images / "usb"
    bad = usb / "NG/AK/S0001"
    mask = bad / "usb_0001_NG_AK_C1_3.png"
    assert found.layout == "real_iad"
    assert found.samples == [
        Sample(usb / "OK/S0001/usb_0001_OK_C1_1.jpg", "usb", "train", "good", (), 127, "OK/S0001"),
        Sample(usb / "OK/S0001/usb_0001_OK_C2_1.jpg", "usb", "train", "good", (), 127, "OK/S0001"),
        Sample(usb / "OK/S0002/usb_0002_OK_C1_2.jpg", "usb", "test", "good", (), 127, "OK/S0002"),
        Sample(bad / "usb_0001_NG_AK_C1_3.jpg", "usb", "test", "AK", (mask,), 127, "NG/AK/S0001"),
        Sample(bad / "usb_0001_NG_AK_C2_3.jpg", "usb", "test", "good", (), 127, "NG/AK/S0001"),
    ]


def test_table_in_a_folder(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png", "c.png", "deep/d.png", "m.png")
    (tmp_path / "samples.csv").write_text(
        "path,category,split,defect,mask,part\n"
        "a.png,nut,,,,p1\nb.png,nut,val,good,,p2\nc.png,nut,test,good,,p3\ndeep/d.png,nut,,dent,m.png,p4\n"
    )
    found = read_data(tmp_path)
    assert (found.layout, found.root) == ("table", tmp_path)
    assert found.samples == [
        Sample(tmp_path / "a.png", "nut", "train", "good", (), 127, "p1"),
        Sample(tmp_path / "b.png", "nut", "val", "good", (), 127, "p2"),
        Sample(tmp_path / "c.png", "nut", "test", "good", (), 127, "p3"),
        Sample(tmp_path / "deep/d.png", "nut", "test", "dent", (tmp_path / "m.png",), 127, "p4"),
    ]


def test_table_with_few_columns_and_a_byte_order_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "nuts", "a.png", "b.png", "c.png")
    table = "path,split,defect\na.png,,good\nb.png,test,good\nc.png,,dent\n"
    (tmp_path / "nuts/samples.csv").write_text(table, encoding="utf-8-sig")
    monkeypatch.chdir(tmp_path / "nuts")
    found = read_data(Path("."))
    assert found.root == Path(".")
    assert [(s.path.name, s.category, s.split, s.masks) for s in found.samples] == [
        ("a.png", "nuts", "train", ()),
        ("b.png", "nuts", "test", ()),
        ("c.png", "nuts", "test", ()),
    ]


def test_parquet_is_read_by_the_callers_reader(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "samples.parquet").write_text("")
    rows: list[dict[str, object]] = [
        {"path": "a.png", "category": 7, "defect": None},
        {"path": "b.png", "category": 7, "split": "test"},
        {"path": "c.png", "category": 7, "defect": "dent"},
    ]
    found = read_data(tmp_path, parquet=lambda file: rows)
    assert [(s.category, s.split, s.defect) for s in found.samples] == [
        ("7", "train", "good"),
        ("7", "test", "good"),
        ("7", "test", "dent"),
    ]
    with pytest.raises(UserError, match="write it as CSV"):
        read_data(tmp_path)


# ---- detection


def test_one_category_may_be_the_root_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "nut", *NUT)
    assert {s.category for s in read_data(tmp_path / "nut").samples} == {"nut"}
    monkeypatch.chdir(tmp_path / "nut")
    assert {s.category for s in read_data(Path(".")).samples} == {"nut"}


def test_subfolders_that_are_data_sets_are_several(tmp_path: Path) -> None:
    fill(tmp_path / "mine/nut", *NUT)
    visa(tmp_path / "visa", *CANDLE)
    fill(tmp_path / "bolt", *NUT)  # one category alone is a data set, too
    fill(tmp_path, ".cache/x.png")
    found = read_data(tmp_path)
    assert (detect(tmp_path), found.layout) == ("several", "several")
    assert list(dict.fromkeys(s.category for s in found.samples)) == ["bolt/bolt", "mine/nut", "visa/candle"]
    assert all(s.path.is_relative_to(found.root) for s in found.samples)
    fill(tmp_path, "notes/x.png")
    assert problems(tmp_path) == ["notes: no data set in a known layout, move it elsewhere"]


def test_problems_of_several_data_sets_are_listed_together(tmp_path: Path) -> None:
    fill(tmp_path / "mine/nut", *NUT, "test/scratch/1.png")
    visa(tmp_path / "visa", *CANDLE)
    (tmp_path / "visa/candle/Data/Images/Normal/0.JPG").unlink()
    assert [line.split(":")[0] for line in problems(tmp_path)] == [
        "mine/nut/test/scratch/1.png",
        "visa/candle/Data/Images/Normal/0.JPG",
    ]


def test_a_named_layout_is_taken_even_where_another_would_be_found(tmp_path: Path) -> None:
    fill(tmp_path / "nut", *NUT)
    assert problems(tmp_path, "btad") == ["nut/train/ok: no good images to train on, add some"]


def test_nothing_that_fits_lists_every_layout(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "pictures/b.png")
    with pytest.raises(UserError) as caught:
        read_data(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(f"{name} ({needs})" in message for name, needs in LAYOUTS.items())
    with pytest.raises(UserError, match=r"holds no category: it needs <category>/train/good/ images"):
        read_data(tmp_path, "mvtec")
    with pytest.raises(UserError, match=r"holds no table of paths: call it samples\.csv or samples\.parquet"):
        read_data(tmp_path, "table")
    with pytest.raises(UserError, match=r"1cls\.csv cannot be read as a CSV file"):
        read_data(tmp_path, "visa")
    with pytest.raises(UserError, match=r"holds no <category>\.json"):
        read_data(tmp_path, "real_iad")
    assert problems(tmp_path / "pictures", "several") == [f"{tmp_path / 'pictures'}: it holds no data set"]


@pytest.mark.parametrize("layout", ["auto", "mvtec"])
def test_a_missing_folder_is_named(tmp_path: Path, layout: str) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path}/gone does not exist: correct the path"):
        read_data(tmp_path / "gone", layout)


@pytest.mark.shared
def test_the_photographs_are_two_categories_of_one_data_set() -> None:
    found = read_data(SHARED_DATA)
    assert found.layout == "mvtec"
    assert {s.category for s in found.samples} == {"cookie", "magnetic_tile"}
    assert sum(bool(s.masks) for s in found.samples) == 32 + 392


# ---- folders: names and refusals


def test_a_linked_category_keeps_the_links_name(tmp_path: Path) -> None:
    for year, name in (("2024", "nut"), ("2025", "bolt")):
        fill(tmp_path / "disk" / year / "good_set", *NUT)
        (tmp_path / "data").mkdir(exist_ok=True)
        os.symlink(tmp_path / "disk" / year / "good_set", tmp_path / "data" / name)
    assert {s.category for s in read_data(tmp_path / "data").samples} == {"bolt", "nut"}


def test_masks_are_found_by_the_stem_of_their_image(tmp_path: Path) -> None:
    fill(tmp_path, "train/good/0.png", "test/good/9.bmp", "test/dent/a.JPG", "test/dent/b.png")
    fill(tmp_path, "ground_truth/dent/b_mask.png", "ground_truth/dent/a.png")
    pairs = {s.path.name: [m.name for m in s.masks] for s in read_data(tmp_path).samples if s.masks}
    assert pairs == {"a.JPG": ["a.png"], "b.png": ["b_mask.png"]}


def test_other_files_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, *NUT, "train/good/.hidden.png")
    for name in ("Thumbs.db", ".DS_Store", "notes.txt", "labels.JSON", "README.md"):
        (tmp_path / "train/good" / name).write_text("")
    (tmp_path / "license.txt").write_text("")
    assert len(read_data(tmp_path).samples) == 4


def test_what_would_vanish_among_the_images_is_refused(tmp_path: Path) -> None:
    fill(
        tmp_path, *NUT, "train/good/a.gif", "validation/good/more/0.png", "test/scratch/b.gif", "test/good/line2/0.png"
    )
    other = "none of .bmp, .jpeg, .jpg, .pgm, .png, .ppm, .tif, .tiff, .webp"
    assert problems(tmp_path) == [
        f"train/good/a.gif: {other} among the images, move or convert it",
        "validation/good/more: a folder among the images, move or convert it",
        "test/good/line2: a folder among the images, move or convert it",
        f"test/scratch/b.gif: {other} among the images, move or convert it",
    ]


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, *NUT, os.fsdecode(b"test/dent/\xfc.png"), os.fsdecode(b"ground_truth/dent/\xfc.png"))
    refusals = [f"'{tmp_path}/{folder}/dent/\\udcfc.png': its path is not UTF-8" for folder in ("test", "ground_truth")]
    with pytest.raises(UserError) as caught:
        read_data(tmp_path)
    assert str(caught.value).splitlines()[1:] == [f"  {refusal}, rename it" for refusal in refusals]


@pytest.mark.parametrize(("closed", "mode"), [("nut/train/good", 0o000), ("nut/test", 0o000), ("nut", 0o644)])
def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str, mode: int
) -> None:
    fill(tmp_path / "nut", *NUT)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    user = os.geteuid()
    Path(closed).chmod(mode)
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(UserError, match=rf"^{closed}\S* cannot be read \(Permission denied\): make it readable"):
            read_data(Path("."))
    finally:
        os.seteuid(user)
        Path(closed).chmod(0o755)


def test_a_category_without_good_images(tmp_path: Path) -> None:
    fill(tmp_path / "nut", *NUT[2:], "train/bad/0.png")
    assert problems(tmp_path) == ["nut/train/good: no good images to train on, add some"]


def test_an_image_without_a_mask_and_a_mask_without_an_image(tmp_path: Path) -> None:
    fill(tmp_path / "nut", *NUT, "test/scratch/1.png", "ground_truth/scratch/2_mask.png", "ground_truth/rust/3.png")
    assert problems(tmp_path) == [
        f"nut/test/scratch/1.png: it has no mask in nut/ground_truth/scratch/<its name>_mask.png, {OTHERS}",
        "nut/ground_truth/scratch/2_mask.png: a mask without an image in nut/test/scratch",
        "nut/ground_truth/rust/3.png: a mask without an image in nut/test/rust",
    ]


def test_loco_without_a_mask_and_a_folder_of_masks_without_an_image(tmp_path: Path) -> None:
    fill(tmp_path / "box", "train/good/0.png", "test/good/0.png", "test/logical_anomalies/0.png")
    fill(tmp_path / "box", "ground_truth/logical_anomalies/1/000.png")
    assert problems(tmp_path) == [
        "box/test/logical_anomalies/0.png: it has no mask in "
        f"box/ground_truth/logical_anomalies/<its name>/000.png, {OTHERS}",
        "box/ground_truth/logical_anomalies/1/000.png: a mask without an image in box/test/logical_anomalies",
    ]


def test_a_category_without_test_images(tmp_path: Path) -> None:
    fill(tmp_path / "nut", *NUT[:2])
    assert [line.split(",")[0] for line in problems(tmp_path)] == [
        "nut/test: no good test images",
        "nut/test: no defective test images",
    ]


def test_all_problems_of_all_categories_are_listed_at_once(tmp_path: Path) -> None:
    fill(tmp_path / "bolt", *NUT[2:], "test/good/1.png")  # nothing to train on
    (tmp_path / "bolt/train").mkdir()
    fill(tmp_path / "nut", *NUT, "test/scratch/1.png")  # no mask
    fill(tmp_path / "pin", *NUT[:3])  # no defect
    listed = problems(tmp_path)
    assert [line.split(":")[0] for line in listed] == ["bolt/train/good", "nut/test/scratch/1.png", "pin/test"]


def test_no_problem_is_no_error() -> None:
    refuse_all([])
    with pytest.raises(UserError, match=r"^the data has 1 problem, mend or remove:\n  a: too small$"):
        refuse_all([Problem.at("a", "too small")])


def test_of_like_problems_the_first_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    fill(tmp_path, *NUT, *(f"test/scratch/{n}.png" for n in range(1, 92)), "ground_truth/dent/7.png", "test/good/a.gif")
    with pytest.raises(UserError) as caught:
        read_data(tmp_path)
    first, *lines = str(caught.value).splitlines()
    assert "93 problems" in first
    places = [line.strip().replace(f"{tmp_path}/", "").split(":")[0] for line in lines]
    assert places == [
        *("test/good/a.gif", "test/scratch/1.png", "test/scratch/10.png", "test/scratch/11.png"),
        *("… and 88 more like it", "ground_truth/dent/7.png"),
    ]


@pytest.mark.parametrize("number", [3, 4])
def test_three_of_a_kind_are_listed_whole(number: int) -> None:
    with pytest.raises(UserError) as caught:
        refuse_all(Problem.at(f"row {n}", f"{n} is too many") for n in range(number))
    assert len(str(caught.value).splitlines()) == 1 + number


# ---- masks that are not there


def test_a_category_without_ground_truth_is_read_without_masks(tmp_path: Path) -> None:
    fill(tmp_path / "nut", *NUT[:4], *(f"test/scratch/{n}.png" for n in range(1, 91)))
    fill(tmp_path / "bolt", *NUT, "test/rust/0.png")  # one kind with, one without
    found = read_data(tmp_path)
    masks = {(s.category, s.defect): bool(s.masks) for s in found.samples if s.defect != "good"}
    assert masks == {("bolt", "rust"): False, ("bolt", "scratch"): True, ("nut", "scratch"): False}
    assert len(found.samples) == 94 + 6 - 1


@pytest.mark.parametrize("layout", ["mvtec2", "btad"])
def test_other_folder_layouts_do_without_masks(tmp_path: Path, layout: str) -> None:
    names = {
        "mvtec2": ("train/good/0.png", "test_public/good/0.png", "test_public/bad/0.png"),
        "btad": ("train/ok/0.png", "test/ok/0.png", "test/ko/0.png"),
    }
    fill(tmp_path / "can", *names[layout])
    found = read_data(tmp_path)
    assert (found.layout, [s.masks for s in found.samples]) == (layout, [(), (), ()])


def test_masks_in_another_form_are_not_taken_for_none(tmp_path: Path) -> None:
    fill(tmp_path / "nut", *NUT[:4])
    truth = tmp_path / "nut/ground_truth/scratch"
    truth.mkdir(parents=True)
    (truth / "0_mask.npy").write_bytes(b"")
    (truth / "Thumbs.db").write_bytes(b"")
    (line,) = problems(tmp_path)
    assert line.startswith("nut/ground_truth/scratch/0_mask.npy: not a mask")


def test_lists_without_any_mask_are_read_and_with_some_refused(tmp_path: Path) -> None:
    lines = [*CANDLE[:2], *(f"candle,test,anomaly,candle/{n}.JPG," for n in range(3))]
    assert [s.masks for s in read_data(visa(tmp_path / "none", *lines)).samples] == [()] * 5
    listed = problems(visa(tmp_path / "some", *lines, CANDLE[2]))
    assert [line.split(":")[0] for line in listed] == [f"candle/{n}.JPG" for n in range(3)]


# ---- names from outside


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/", "/etc", "a/..", "../a", "./a", "a/", "a//b", "a/b/c", "..\\a", "a\\b"),
        *(" nut", "nut ", "set /nut", "set/ nut", "\u00a0nut", "nu\nt", "nu\x00t", "nu\x1bt", "nu\u2028t", "\ud800"),
        "n" * 101,
    ],
)
def test_a_category_that_no_folder_could_be_called_is_refused(name: str) -> None:
    assert category_fault(name)


@pytest.mark.parametrize("name", ["nut", "Mutter groß", "'nut' \"M8\"", "set/nut", "...", "a..b", "$HOME", "n" * 100])
def test_other_categories_are_taken(name: str) -> None:
    assert category_fault(name) == ""


@pytest.mark.parametrize("category", ["..", "/tmp/x", "a\\b", "set/../x", "x" * 101])
def test_a_tables_category_is_told_once_at_its_first_image(tmp_path: Path, category: str) -> None:
    fill(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "samples.csv").write_text(
        f"path,category,split,defect\na.png,{category},,\nb.png,{category},test,\nc.png,{category},test,dent\n"
    )
    (line,) = problems(tmp_path)
    assert line.startswith(f"a.png: its category {category[:100]!r} ")


def test_categories_of_every_layout_are_checked(tmp_path: Path) -> None:
    fill(tmp_path / "folders/a\\b", *NUT)
    assert problems(tmp_path / "folders")[0].startswith("a\\b/train/good/0.png: its category 'a\\\\b'")
    listed = problems(visa(tmp_path / "visa", *(line.replace("candle,", "..,", 1) for line in CANDLE)))
    assert listed[0].startswith("candle/Data/Images/Normal/0.JPG: its category '..'")
    views = real_iad(tmp_path / "iad") / "realiad_jsons/usb.json"
    views.write_text(views.read_text().replace('"usb"', '".."'))
    assert problems(tmp_path / "iad")[0].startswith("realiad_1024/usb/OK/S0001/usb_0001_OK_C1_1.jpg: its category '..'")
    views.write_text(views.read_text().replace('".."', "5"))
    (line,) = problems(tmp_path / "iad")
    assert line.startswith("realiad_jsons/usb.json: no list of Real-IAD (TypeError: category is 5")
    fill(tmp_path / "sets/ mine/nut", *NUT)
    fill(tmp_path / "sets/yours/nut", *NUT)
    (line,) = problems(tmp_path / "sets", "several")
    assert line.startswith(" mine/nut/train/good/0.png: its category ' mine/nut'")
    table = tmp_path / "sets/table"
    fill(table, "a.png", "b.png", "c.png")
    (table / "samples.csv").write_text("path,category,split,defect\na.png,x/y,,\nb.png,x/y,test,\nc.png,x/y,,dent\n")
    assert problems(tmp_path / "sets")[-1].startswith("table/a.png: its category 'table/x/y' has a slash too many")


@pytest.mark.parametrize(("column", "value"), [("defect", "de\x1bnt"), ("part", "p\x001")])
def test_kinds_and_parts_with_control_characters_are_refused(tmp_path: Path, column: str, value: str) -> None:
    fill(tmp_path, "a.png", "b.png", "c.png")
    rows = {"defect": "dent", "part": "", column: value}
    (tmp_path / "samples.csv").write_text(
        f"path,split,defect,part\na.png,,,\nb.png,test,,\nc.png,,{rows['defect']},{rows['part']}\n"
    )
    (line,) = problems(tmp_path)
    assert line.startswith("c.png: its ")
    assert repr(value) in line


@pytest.mark.parametrize("mask", ["../out.png", "/etc/hostname", "deep/../../out.png"])
def test_a_mask_outside_the_data_is_refused_in_every_list(tmp_path: Path, mask: str) -> None:
    fill(tmp_path, "out.png")
    views = real_iad(tmp_path / "iad") / "realiad_jsons/usb.json"
    views.write_text(views.read_text().replace("NG/AK/S0001/usb_0001_NG_AK_C1_3.png", mask))
    listed = problems(tmp_path / "iad")
    visa(tmp_path / "visa", *CANDLE[:2])
    with (tmp_path / "visa/split_csv/1cls.csv").open("a") as file:
        file.write(f"\ncandle,test,anomaly,candle/Data/Images/Normal/1.JPG,{mask}")
    listed += problems(tmp_path / "visa")[1:]
    assert len(listed) == 2
    assert all("must give its path relative to" in line for line in listed)


def test_a_data_set_that_cannot_be_read_hides_nothing_of_the_others(tmp_path: Path) -> None:
    fill(tmp_path / "mine/nut", *NUT[1:4], "ground_truth/rust/0.png")
    (tmp_path / "table").mkdir()
    (tmp_path / "table/samples.csv").write_text("file\na.png\n")
    assert [line.split(":")[0].split(" ")[0] for line in problems(tmp_path)] == [
        "mine/nut/ground_truth/rust/0.png",
        "table/samples.csv",
    ]


# ---- lists: refusals


def test_all_that_is_wrong_with_a_table_is_listed_at_once(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png", "c.png", "m.png")
    (tmp_path / "samples.csv").write_text(
        "path,split,defect,mask\na.png,,,\na.png,,,\n,,,\nb.png,exam,,\nb.png,,,m.png\nc.png,train,dent,\n"
        "gone.png,,,\n/etc/hostname,test,,\n"
        f"{'long' * 99},test,,\n"
    )
    assert problems(tmp_path) == [
        "samples.csv, row 3: it has no path",
        "samples.csv, row 4: split is 'exam': it must be one of train, val, test",
        "samples.csv, row 5: b.png has a mask but no defect: name the kind of defect, or remove the mask",
        "a.png: listed 2 times in samples.csv",
        "gone.png: no such file, but samples.csv lists it",
        f"/etc/hostname: samples.csv must give its path relative to {tmp_path}, without '..'",
        f"{'long' * 99}: File name too long, but samples.csv lists it",
        f"samples.csv, category {tmp_path.name}: no defective test images, both good and defective ones are needed "
        "to measure with",
    ]


def test_paths_that_lead_out_of_the_data_folder_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "out.png", "data/a.png", "data/b.png", "data/c.png")
    root = tmp_path / "data"
    table = "path,split,defect,mask\na.png,,,\nb.png,test,,\nc.png,,dent,../out.png\n../out.png,,,\n"
    (root / "samples.csv").write_text(table)
    refusal = f"../out.png: samples.csv must give its path relative to {root}, without '..'"
    assert problems(root) == [refusal, refusal]
    visa(root, *CANDLE, "candle,test,normal,../out.png,")
    assert problems(root, "visa") == [refusal.replace("samples.csv", "split_csv/1cls.csv")]


def test_columns_that_a_table_does_not_have_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "samples.csv").write_text("path,defect,Mask,Part\na.png,,,\nb.png,,,\nc.png,dent,m.png,1,more\n")
    known = "is unknown, remove it or use path, category, split, defect, mask, part"
    lines = problems(tmp_path)
    assert lines[:2] == [f"samples.csv: column 'Mask' {known}", f"samples.csv: column 'Part' {known}"]
    assert lines[2].startswith("samples.csv, row 3: it has more cells than the first line names columns")


@pytest.mark.parametrize("defect", ["Good", "OK", "normal", "None", "no", "0", "False"])
def test_a_defect_that_means_none_is_refused(tmp_path: Path, defect: str) -> None:
    fill(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "samples.csv").write_text(f"path,split,defect\na.png,,\nb.png,test,{defect}\nc.png,,nodule\n")
    refusal = f"samples.csv, row 2: defect is '{defect}': write good for a good part, or name the kind of defect"
    assert problems(tmp_path)[0] == refusal


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    table = tmp_path / "samples.csv"
    table.write_text("file;defect\na.png;good\n")
    with pytest.raises(UserError, match=r"samples\.csv has no column 'path'"):
        read_data(tmp_path)
    table.write_text("path\n")
    assert problems(tmp_path) == ["samples.csv: it lists no image"]
    table.write_bytes(b"path\n\xff\xfe\n")
    with pytest.raises(UserError, match="cannot be read as a CSV file"):
        read_data(tmp_path)
    (tmp_path / "samples.parquet").write_text("")
    with pytest.raises(UserError, match=r"holds both samples\.csv and samples\.parquet: remove one of them"):
        read_data(tmp_path)


def test_visa_rows_that_cannot_be_used(tmp_path: Path) -> None:
    visa(tmp_path, *CANDLE, "candle,test,odd,candle/x.JPG,", "candle,test,anomaly,candle/y.JPG,")
    visa(tmp_path / "other", *CANDLE[1:])
    assert problems(tmp_path) == [
        "split_csv/1cls.csv, row 4: label 'odd' in split 'test' is not VisA's",
        f"candle/y.JPG: it has no mask in split_csv/1cls.csv, {OTHERS}",
    ]
    assert problems(tmp_path / "other") == ["split_csv/1cls.csv, category candle: no good images to train on, add some"]


def test_real_iad_lists_that_cannot_be_used(tmp_path: Path) -> None:
    real_iad(tmp_path)
    (tmp_path / "realiad_1024/usb/OK/S0002/usb_0002_OK_C1_2.jpg").unlink()
    lists = tmp_path / "realiad_jsons"
    (lists / "toy.json").write_text("{}")
    usb = json.loads((lists / "usb.json").read_text())
    usb["meta"]["prefix"] = "pcb/"
    (lists / "pcb.json").write_text(json.dumps(usb))
    assert problems(tmp_path) == [
        f"realiad_jsons/pcb.json: {tmp_path} must have one folder with its images in pcb/, found none",
        "realiad_jsons/toy.json: no list of Real-IAD (KeyError: 'meta')",
        "realiad_1024/usb/OK/S0002/usb_0002_OK_C1_2.jpg: no such file, but realiad_jsons/usb.json lists it",
    ]


def test_of_real_iads_sizes_the_largest_is_read(tmp_path: Path) -> None:
    real_iad(tmp_path)
    image = "usb/OK/S0001/usb_0001_OK_C1_1.jpg"
    fill(tmp_path, f"realiad_256/{image}", f"realiad_512/{image}", image)
    assert {s.path.relative_to(tmp_path).parts[0] for s in read_data(tmp_path).samples} == {"realiad_1024"}


def test_real_iad_in_two_folders_without_a_size_is_refused(tmp_path: Path) -> None:
    real_iad(tmp_path, images="one")
    fill(tmp_path, "other/usb/OK/S0001/usb_0001_OK_C1_1.jpg")
    (line,) = problems(tmp_path)
    assert line.endswith("found one and other")


# ---- masks


def test_the_union_of_masks_of_either_kind() -> None:
    one, other = (Image.fromarray(np.array([row], np.uint8)) for row in ([0, 1, 127, 128], [0, 0, 0, 3]))
    assert np.asarray(union([one, other], 127)).tolist() == [[0, 0, 0, 255]]
    assert np.asarray(union([one, other], 0)).tolist() == [[0, 255, 255, 255]]
    classes = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    classes.putpalette([0, 0, 0, 0, 0, 0, 200, 0, 0])  # class 1 is shown black
    assert np.asarray(union([classes], 0)).tolist() == [[0, 255, 255]]


def test_what_is_transparent_in_a_mask_is_not_marked() -> None:
    white = Image.new("L", (3, 1), 255)
    alpha = Image.fromarray(np.array([[0, 255, 100]], np.uint8))
    coloured, grey = Image.merge("RGBA", (white, white, white, alpha)), Image.merge("LA", (white, alpha))
    palette = Image.fromarray(np.array([[0, 1, 0]], np.uint8)).convert("P")
    palette.putpalette([255, 255, 255] * 2)
    palette.info["transparency"] = 0
    for mask in (coloured, grey):
        assert np.asarray(union([mask], 127)).tolist() == [[0, 255, 0]]
        assert np.asarray(union([mask], 0)).tolist() == [[0, 255, 255]]
    assert np.asarray(union([palette], 127)).tolist() == [[0, 255, 0]]


# ---- defects to learn from


def test_defects_to_learn_from_lie_beside_the_good_training_images(tmp_path: Path) -> None:
    fill(tmp_path / "nut", "train/good/0.png", "train/rust/7.png", "test/good/1.png", "test/rust/2.png")
    fill(tmp_path / "nut", "ground_truth/rust/7_mask.png", "ground_truth/rust/2_mask.png")
    found = {(s.path.name, s.split, s.defect, tuple(m.name for m in s.masks)) for s in read_data(tmp_path).samples}
    assert found == {
        ("0.png", "train", "good", ()),
        ("7.png", "train", "rust", ("7_mask.png",)),
        ("1.png", "test", "good", ()),
        ("2.png", "test", "rust", ("2_mask.png",)),
    }


def test_one_mask_for_two_images_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "nut", "train/good/0.png", "train/rust/2.png", "test/good/1.png", "test/rust/2.png")
    fill(tmp_path / "nut", "ground_truth/rust/2_mask.png")
    (line,) = problems(tmp_path)
    assert line.startswith("nut/test/rust/2.png: another image of that name lies in ")


def test_a_table_may_have_defects_in_split_train(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png", "c.png", "d.png", "m.png")
    lines = "path,split,defect,mask\na.png,,,\nb.png,train,dent,m.png\nc.png,test,,\nd.png,test,dent,\n"
    (tmp_path / "samples.csv").write_text(lines)
    assert [(s.path.name, s.split, s.defect) for s in read_data(tmp_path).samples][1] == ("b.png", "train", "dent")
