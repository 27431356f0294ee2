"""The demo data set: its layout, its masks, and that it is the same whenever and however it is rendered."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from demo.data.render import CATEGORIES, generate, render
from demo.settings import DemoData
from inpformer.config import build
from inpformer.errors import UserError

SMALL = DemoData(image_size=64, train_images=2, test_images=7)
KINDS = [(name, defect) for name, category in CATEGORIES.items() for defect in category.defects]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "out"
    generate(SMALL, folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def test_layout_and_counts(demo: Path) -> None:
    assert {path.name for path in demo.iterdir()} == set(CATEGORIES)
    for name, category in CATEGORIES.items():
        folder = demo / name
        assert {path.name for path in folder.iterdir()} == {"train", "test", "ground_truth"}
        assert [path.name for path in (folder / "train").iterdir()] == ["good"]
        assert {path.name for path in (folder / "test").iterdir()} == {"good", *category.defects}
        assert sorted(path.name for path in (folder / "train/good").iterdir()) == ["000.png", "001.png"]
        counts = [len(list((folder / "test" / kind).iterdir())) for kind in ("good", *category.defects)]
        assert counts == [2, 2, 1, 1, 1]


def test_masks_belong_to_the_defect_images_alone(demo: Path) -> None:
    for name, category in CATEGORIES.items():
        folder = demo / name
        wanted = {
            f"{kind}/{image.stem}_mask.png" for kind in category.defects for image in (folder / "test" / kind).iterdir()
        }
        masks = folder / "ground_truth"
        assert {str(path.relative_to(masks)) for path in masks.rglob("*.png")} == wanted


def test_files_are_8_bit_of_the_size_asked_for(demo: Path) -> None:
    for path in demo.rglob("*.png"):
        with Image.open(path) as image:
            assert image.size == (64, 64)
            if path.name.endswith("_mask.png"):
                assert image.mode == "L"
                assert set(np.unique(np.asarray(image))) == {0, 255}
            else:
                assert image.mode == "RGB"


def test_rerun_replaces_with_the_same_bytes(demo: Path) -> None:
    before = contents(demo)
    generate(SMALL, demo)
    assert contents(demo) == before
    assert [path.name for path in demo.parent.iterdir()] == ["out"]


def test_an_image_depends_on_its_name_and_the_seed_alone(demo: Path, tmp_path: Path) -> None:
    generate(DemoData(image_size=64, train_images=1, test_images=6), tmp_path / "fewer")
    fewer, all_of_them = contents(tmp_path / "fewer"), contents(demo)
    assert fewer.items() < all_of_them.items()
    generate(DemoData(seed=1, image_size=64, train_images=1, test_images=6), tmp_path / "other")
    other = contents(tmp_path / "other")
    assert other.keys() == fewer.keys()
    assert not set(other.values()) & set(fewer.values())


@pytest.mark.parametrize(("category", "defect"), KINDS)
def test_the_mask_holds_what_the_defect_changes(category: str, defect: str) -> None:
    for number in range(3):
        flawed, mask = render(category, defect, (5, number), 128)
        clean, nothing = render(category, None, (5, number), 128)
        change = np.abs(flawed.astype(float) - clean).max(axis=-1)
        assert not nothing.any()
        assert 20 <= mask.sum() < 0.2 * mask.size
        assert change[mask].mean() > 12  # of 255: far above the noise, which both pictures share
        beyond_the_lens_blur = ~ndimage.binary_dilation(mask, iterations=2)
        assert change[beyond_the_lens_blur].max() <= 12


@pytest.mark.parametrize(("key", "value"), [("train_images", 0), ("test_images", 5), ("image_size", 32), ("seed", -1)])
def test_an_impossible_setting_is_refused_by_name(key: str, value: int) -> None:
    with pytest.raises(UserError, match=rf"^params\.yaml: demo_data\.{key} is {value}: it must be "):
        build(DemoData, {key: value}, "params.yaml: demo_data")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(UserError, match="--out"):
        generate(SMALL, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "dear"
