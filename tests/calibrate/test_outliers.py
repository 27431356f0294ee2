"""Which good images are shown because they set the thresholds."""

from pathlib import Path

import pytest
from PIL import Image

from inpformer.judging.calibration import CHECKED, calibrate
from inpformer.judging.detector import Detector
from inpformer.judging.settings import CalibrationSettings
from pipelines.calibrate import outliers
from pipelines.calibrate.held_out import GoodImage
from pipelines.calibrate.judge import InProcess
from tests.calibrate.test_held_out import images as images


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        (CalibrationSettings(0.05), {2: ("highest", "FAIL", "REVIEW")}),
        (CalibrationSettings(0.05, None, 0.2), {2: ("highest", "FAIL"), 0: ("REVIEW",)}),
        (CalibrationSettings(0.4, None, 0.2), {2: ("highest",), 0: ("FAIL",), 3: ("REVIEW",)}),
    ],
)
def test_the_highest_and_those_that_set_a_threshold(
    settings: CalibrationSettings, shown: dict[int, tuple[str, ...]]
) -> None:
    scores = [0.4, 0.1, 0.9, 0.3]
    found = outliers.setting(scores, calibrate({"nut": scores}, settings, CHECKED)["nut"])
    assert list(found) == sorted(found, key=lambda n: -scores[n])
    assert {number: tuple(said.split()[-1] for said in text.split(", ")) for number, text in found.items()} == shown


def test_they_are_drawn_with_their_maps(
    detector: Detector, images: list[GoodImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    draw = outliers.draw_gallery
    monkeypatch.setattr(
        outliers, "draw_gallery", lambda shown, file: (drawn.extend(one.title for one in shown), draw(shown, file))
    )
    scores = [0.4, 0.1, 0.9, 0.3]
    detector.thresholds = calibrate({"nut": scores}, CalibrationSettings(0.4, None, 0.2), CHECKED)
    outliers.draw_outliers(InProcess(detector), images, scores, None, tmp_path / "thresholds.png")
    assert [title.split(",")[0] for title in drawn] == ["nut: 2.png", "nut: 0.png", "nut: 3.png"]
    with Image.open(tmp_path / "thresholds.png") as picture:
        assert picture.width > 1000
