"""The MVTec-AD layout: what is found in a folder, and that everything wrong with it is said at once."""

import os
from pathlib import Path

import pytest
from PIL import Image

from inpformer.errors import UserError
from inpformer.layout import Sample, read_mvtec, refuse_all

NUT = (
    *("train/good/0.png", "train/good/1.png", "test/good/0.png"),
    *("test/scratch/0.png", "ground_truth/scratch/0_mask.png"),
)


def fill(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1, 1)).save(root / name)
    return root


def problems(root: Path) -> list[str]:
    with pytest.raises(UserError) as caught:
        read_mvtec(root)
    first, *lines = str(caught.value).splitlines()
    assert first == f"the data has {len(lines)} problem{'s' if len(lines) > 1 else ''}, mend or remove:"
    return [line.strip().replace(f"{root}/", "") for line in lines]


def test_every_category_is_found(tmp_path: Path) -> None:
    fill(tmp_path / "nut", *NUT)
    fill(tmp_path / "bolt", *NUT)
    fill(tmp_path, "readme/picture.png")
    samples = read_mvtec(tmp_path)
    assert [s.category for s in samples] == ["bolt"] * 4 + ["nut"] * 4
    nut = tmp_path / "nut"
    assert samples[4:] == [
        Sample(nut / "train/good/0.png", "nut", "train", "good", None),
        Sample(nut / "train/good/1.png", "nut", "train", "good", None),
        Sample(nut / "test/good/0.png", "nut", "test", "good", None),
        Sample(nut / "test/scratch/0.png", "nut", "test", "scratch", nut / "ground_truth/scratch/0_mask.png"),
    ]


def test_one_category_may_be_the_root_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "nut", *NUT)
    assert {s.category for s in read_mvtec(tmp_path / "nut")} == {"nut"}
    monkeypatch.chdir(tmp_path / "nut")
    assert {s.category for s in read_mvtec(Path("."))} == {"nut"}


def test_a_linked_category_keeps_the_links_name(tmp_path: Path) -> None:
    for year, name in (("2024", "nut"), ("2025", "bolt")):
        fill(tmp_path / "disk" / year / "good_set", *NUT)
        (tmp_path / "data").mkdir(exist_ok=True)
        os.symlink(tmp_path / "disk" / year / "good_set", tmp_path / "data" / name)
    assert {s.category for s in read_mvtec(tmp_path / "data")} == {"bolt", "nut"}


def test_masks_are_found_by_the_stem_of_their_image(tmp_path: Path) -> None:
    fill(tmp_path, "train/good/0.png", "test/good/9.bmp", "test/dent/a.JPG", "test/dent/b.png")
    fill(tmp_path, "ground_truth/dent/b_mask.png", "ground_truth/dent/a.png")
    pairs = {s.path.name: s.mask.name for s in read_mvtec(tmp_path) if s.mask}
    assert pairs == {"a.JPG": "a.png", "b.png": "b_mask.png"}


def test_other_files_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, *NUT, "train/good/.hidden.png")
    (tmp_path / "train/good/Thumbs.db").write_text("")
    (tmp_path / "license.txt").write_text("")
    assert len(read_mvtec(tmp_path)) == 4


def test_a_missing_folder_names_the_key_to_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path}/gone does not exist: set manifest\.data in params\.yaml"):
        read_mvtec(tmp_path / "gone")


def test_an_empty_folder_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no category: it needs <category>/train/good/ with images"):
        read_mvtec(tmp_path)


def test_a_category_without_good_images(tmp_path: Path) -> None:
    fill(tmp_path / "nut", *NUT[2:], "train/bad/0.png")
    assert problems(tmp_path) == ["nut/train/good: no good images to train on, add some"]


def test_an_image_without_a_mask_and_a_mask_without_an_image(tmp_path: Path) -> None:
    fill(tmp_path / "nut", *NUT, "test/scratch/1.png", "ground_truth/scratch/2_mask.png", "ground_truth/rust/3.png")
    assert problems(tmp_path) == [
        "nut/test/scratch/1.png: it has no mask, expected nut/ground_truth/scratch/1_mask.png",
        "nut/ground_truth/scratch/2_mask.png: a mask without an image in nut/test/scratch",
        "nut/ground_truth/rust/3.png: a mask without an image in nut/test/rust",
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
        refuse_all(["a: too small"])
