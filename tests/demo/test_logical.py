"""The demo data set of logical defects: what is on the trays, what is marked, and that it reads as LOCO's layout."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo.data.logical import BY_AREA, DEFECTS, VALUES, generate, render, saturations
from demo.parts import KINDS, Part
from demo.settings import DemoData
from demo.tray import CLEARANCE, COMPARTMENTS, LOOSE, discs, inside, pack
from demo.tray_flaws import LOGICAL, STRUCTURAL
from inpformer.errors import UserError
from inpformer.images.layouts.saturation import read_saturations
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings

SMALL = DemoData(image_size=64, train_images=5, test_images=17)


def contents(parts: list[Part]) -> dict[str, list[str]]:
    """The kinds of parts in each compartment."""
    return {name: sorted(part.kind for part in parts if inside(part, box)) for name, box in COMPARTMENTS.items()}


GOOD = {name: list(kinds) for name, kinds in LOOSE.items()} | {"cable": ["cable"], "knobs": ["knob", "knob"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logical") / "out"
    generate(SMALL, folder)
    return folder


def test_it_is_read_as_a_data_set_of_loco(data: Path) -> None:
    manifest = build_manifest(data, ManifestSettings("unused"))
    assert (manifest.layout, manifest.categories) == ("loco", ["tray"])
    counts = {(split, label): 0 for split in ("train", "val", "test") for label in (0, 1)}
    for row in manifest.rows:
        counts[row.split, row.label] += 1
        assert bool(row.masks) == bool(row.label)
        assert len(row.saturations) == len(row.masks)
    assert counts == {("train", 0): 5, ("train", 1): 0, ("val", 0): 2, ("val", 1): 0, ("test", 0): 7, ("test", 1): 10}
    kinds = [row.defect for row in manifest.rows if row.label]
    assert [kinds.count(kind) for kind in DEFECTS] == [5, 5]
    # Of the five logical ones two have two regions; what may be anywhere in a compartment is found in part.
    regions = sorted(share for row in manifest.rows for share in row.saturations)
    assert len(regions) == 12
    assert sum(share < 0.35 for share in regions) == 3
    assert sum(share == 1 for share in regions) == 9


def test_each_kind_of_defect_has_its_value_and_its_saturation(data: Path) -> None:
    listed = {one.defect_name: one for one in read_saturations(data / "tray")}
    assert {name: one.pixel_value for name, one in listed.items()} == VALUES
    for name, one in listed.items():
        assert one.relative_saturation == (name not in BY_AREA)
    for file in (data / "tray/ground_truth").rglob("*.png"):
        with Image.open(file) as mask:
            assert mask.mode == "L"
            zero, value = np.unique(np.asarray(mask)).tolist()
        assert zero == 0
        assert value in VALUES.values()


def test_a_part_covers_the_area_that_saturates_where_it_is_missing() -> None:
    for number in range(3):
        _, marked = render("additional", (3, number), 128)
        ((name, region),) = marked
        kind = BY_AREA[name]
        count = len(LOOSE[f"{kind}s"]) + 1
        one = next(table["saturation_threshold"] for table in saturations(128) if table["defect_name"] == name)
        assert region.sum() / count == pytest.approx(one, rel=0.15), name


@pytest.mark.parametrize("seed", range(5))
def test_a_good_tray_is_complete_and_nothing_overlaps(seed: int) -> None:
    parts = pack(np.random.default_rng(seed))
    assert contents(parts) == GOOD
    assert len({part.colour for part in parts if part.kind in ("knob", "cable")}) == 1
    for number, one in enumerate(parts):
        for other in parts[:number]:
            mine, theirs = discs(one)[:, None], discs(other)
            gap = np.hypot(*(mine[..., k] - theirs[:, k] for k in (0, 1))) - mine[..., 2] - theirs[:, 2]
            assert gap.min() >= CLEARANCE - 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_a_logical_defect_breaks_what_it_says_and_nothing_else(seed: int) -> None:
    scene, flaw = np.random.default_rng(seed), np.random.default_rng(100 + seed)
    found = {name: defect(scene, flaw) for name, defect in LOGICAL.items()}
    off = {
        name: sum(contents(parts)[box].count(kind) - kinds.count(kind) for box, kinds in GOOD.items() for kind in KINDS)
        for name, (parts, _) in found.items()
    }
    assert off == {"missing": -1, "additional": 1, "swapped": 0, "misplaced": 0, "wrong_colour": 0}
    assert contents(found["swapped"][0]) != GOOD != contents(found["misplaced"][0])
    assert contents(found["wrong_colour"][0]) == GOOD
    colours = {part.colour for part in found["wrong_colour"][0] if part.kind in ("knob", "cable")}
    assert len(colours) == 2
    assert [len(regions) for _, regions in found.values()] == [1, 1, 2, 2, 1]


@pytest.mark.parametrize("defect", STRUCTURAL)
def test_a_structural_defect_is_marked_where_it_shows(defect: str) -> None:
    for number in range(2):
        flawed, ((name, mask),) = render(defect, (5, number), 128)
        clean, nothing = render(None, (5, number), 128)
        change = np.abs(flawed.astype(float) - clean).max(axis=-1)
        assert (name, nothing) == (defect, [])
        assert 10 <= mask.sum() < 0.2 * mask.size
        assert change[mask].mean() > 12  # of 255: far above the noise, which both pictures share


def test_a_picture_depends_on_its_seeds_alone(data: Path) -> None:
    number = 2
    image, marked = render("swapped", (0, zlib.crc32(b"tray/test/logical_anomalies"), number), SMALL.image_size)
    with Image.open(data / f"tray/test/logical_anomalies/{number:03}.png") as found:
        np.testing.assert_array_equal(np.asarray(found), image)
    masks = sorted((data / f"tray/ground_truth/logical_anomalies/{number:03}").iterdir())
    for file, (name, region) in zip(masks, marked, strict=True):
        with Image.open(file) as found:
            np.testing.assert_array_equal(np.asarray(found), region * VALUES[name])


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(UserError, match="--out"):
        generate(SMALL, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "dear"
