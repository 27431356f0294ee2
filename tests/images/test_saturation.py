"""How much of a defect is enough: what LOCO's file says, and that a broken one is refused in a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from inpformer.errors import UserError
from inpformer.images.layouts import read_data
from inpformer.images.layouts.saturation import LARGEST, SATURATION_FILE, Saturation, read_saturations
from tests.images.test_layouts import fill, problems

SCRATCH = {"defect_name": "scratch", "pixel_value": 255, "saturation_threshold": 1.0, "relative_saturation": True}
MISSING = {"defect_name": "missing", "pixel_value": 254, "saturation_threshold": 500, "relative_saturation": False}


def listed(folder: Path, content: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / SATURATION_FILE).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_the_kinds_of_defect_are_read(tmp_path: Path) -> None:
    scratch, missing = read_saturations(listed(tmp_path, [SCRATCH, MISSING]))
    assert scratch == Saturation("scratch", 255, 1.0, True)
    assert missing == Saturation("missing", 254, 500.0, False)
    assert read_saturations(tmp_path / "elsewhere") == ()


@pytest.mark.parametrize(
    ("threshold", "relative", "pixels", "share"),
    [
        (1.0, True, 7, 1.0),
        (0.5, True, 7, 3 / 7),  # whole pixels
        (0.01, True, 7, 1 / 7),  # but one at least
        (500, False, 1000, 0.5),
        (500, False, 400, 1.0),  # no more than there are
    ],
)
def test_a_region_needs_a_share_of_its_pixels(threshold: float, relative: bool, pixels: int, share: float) -> None:
    assert Saturation("chip", 1, threshold, relative).share(pixels) == pytest.approx(share)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("[{", "is no JSON file"),
        ("[" * 100_000, "is no JSON file"),
        ("\xff\udcff".encode("utf-16", "surrogatepass").decode("latin-1"), "is no JSON file"),
        ({}, "must hold a list"),
        ([], "must hold a list"),
        ([[]], r"\[0\] must be a table of keys and values"),
        ([SCRATCH, {**MISSING, "pixel_value": 255}], "has pixel_value 255 more than once"),
        ([SCRATCH, {**MISSING, "pixel_value": 0}], r"\[1\]\.pixel_value is 0: it must be between 1 and 255"),
        ([{**SCRATCH, "pixel_value": 256}], "pixel_value is 256"),
        ([{**SCRATCH, "pixel_value": "255"}], "pixel_value is '255': it must be a whole number"),
        ([{**SCRATCH, "saturation_threshold": 1.5}], "saturation_threshold is 1.5: it must be a share"),
        ([{**SCRATCH, "saturation_threshold": 0}], "saturation_threshold is 0.0: it must be a share"),
        (
            [{**MISSING, "saturation_threshold": 0.5}],
            "saturation_threshold is 0.5: it must be a whole number of pixels",
        ),
        ([{**MISSING, "saturation_threshold": float("nan")}], "saturation_threshold is nan"),
        ([{**MISSING, "relative_saturation": 1}], "relative_saturation is 1: it must be true or false"),
        ([{**MISSING, "colour": "red"}], "colour is not a known key"),
        ([{"pixel_value": 3}], "defect_name is missing"),
        (" " * (LARGEST + 1), "larger than"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, content: Any, wrong: str) -> None:
    with pytest.raises(UserError, match=wrong) as caught:
        read_saturations(listed(tmp_path, content))
    assert str(caught.value).startswith(str(tmp_path / SATURATION_FILE))
    assert "\n" not in str(caught.value)


BOX = (
    *("train/good/0.png", "test/good/0.png", "test/logical_anomalies/0.png"),
    *("ground_truth/logical_anomalies/0/000.png", "ground_truth/logical_anomalies/0/001.png"),
)


def test_only_masks_of_loco_are_saturated(tmp_path: Path) -> None:
    listed(fill(tmp_path / "loco/box", *BOX), [SCRATCH, MISSING])
    nut = ("train/good/0.png", "test/good/0.png", "test/scratch/0.png", "ground_truth/scratch/0_mask.png")
    listed(fill(tmp_path / "mvtec/nut", *nut), "somebody's notes")
    by_defect = {sample.defect: sample.saturations for sample in read_data(tmp_path).samples}
    assert by_defect.pop("logical_anomalies") == tuple(Saturation(**one) for one in (SCRATCH, MISSING))
    assert by_defect == {"good": (), "scratch": ()}


def test_a_wrong_file_is_one_of_all_problems(tmp_path: Path) -> None:
    listed(fill(tmp_path / "box", *BOX, "test/logical_anomalies/1.png"), [SCRATCH, SCRATCH])
    unmasked, twice = problems(tmp_path)
    assert unmasked.startswith("box/test/logical_anomalies/1.png: it has no mask")
    assert twice.startswith("box/defects_config.json has pixel_value 255 more than once")
