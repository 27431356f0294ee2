"""What counts as a held-out good image, and what calibrate writes and says of them."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inpformer.errors import BrokenScoreError, UserError
from inpformer.judging.calibration import CHECKED, SAID, UNKNOWN
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL
from inpformer.judging.plausibility import Plausibility
from inpformer.judging.seen import SeenImages
from inpformer.judging.settings import CalibrationSettings
from pipelines.calibrate import held_out
from pipelines.calibrate.held_out import GoodImage
from pipelines.calibrate.judge import InProcess
from pipelines.calibrate.scores_table import HeldOutScore, read_scores, write_scores

SETTINGS = CalibrationSettings(0.3)


@pytest.fixture
def images(tmp_path: Path) -> list[GoodImage]:
    """Four noise pictures of nuts."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(4):
        file = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(file)
        made.append(GoodImage(file, "nut", hashlib.sha256(file.read_bytes()).hexdigest(), ""))
    return made


def test_a_part_counts_once_with_its_highest_score(images: list[GoodImage]) -> None:
    of_one = [replace(image, part="p") for image in images[:2]]
    copy = replace(images[3], path=Path("copy.png"))
    found = held_out.thresholds([*of_one, *images[2:], copy], [0.1, 0.4, 0.2, 0.3, 0.5], SETTINGS, CHECKED)["nut"]
    assert found.scores == (0.2, 0.4, 0.5)
    assert found.false_alarm_rate == pytest.approx(1 / 4)
    assert found.unseen == CHECKED


def test_parts_of_two_categories_may_have_one_name(images: list[GoodImage]) -> None:
    both = [replace(images[0], part="1"), replace(images[1], part="1", category="bolt")]
    found = held_out.thresholds(both, [0.1, 0.4], SETTINGS, SAID)
    assert {category: t.scores for category, t in found.items()} == {"nut": (0.1,), "bolt": (0.4,)}


def test_an_image_that_was_trained_on_is_refused_by_name(detector: Detector, images: list[GoodImage]) -> None:
    detector.seen = SeenImages.of([images[2].sha256, "0" * 64])
    with pytest.raises(UserError, match=rf"{images[2].path}.* 1 of these 4"):
        held_out.scores_of(InProcess(detector), images)
    assert [len(part) for part in held_out.scores_of(InProcess(detector), [*images[:2], images[3]])] == [3, 3]


def test_who_knows_what_was_trained_on(detector: Detector) -> None:
    said = replace(SETTINGS, unseen=True)
    assert [held_out.unseen_by(detector, settings) for settings in (SETTINGS, said)] == [UNKNOWN, SAID]
    detector.seen = SeenImages.of([])
    assert [held_out.unseen_by(detector, settings) for settings in (SETTINGS, said)] == [CHECKED, CHECKED]


def test_a_model_that_gives_no_number_is_an_error_that_names_the_image(
    detector: Detector, images: list[GoodImage]
) -> None:
    with torch.no_grad():
        detector.models[ALL].network.prototype_token.fill_(float("nan"))
    with pytest.raises(BrokenScoreError, match=rf"{images[0].path}.*nan"):
        held_out.scores_of(InProcess(detector), images)


def test_what_is_not_promised_is_not_said(images: list[GoodImage]) -> None:
    for how, promised in ((UNKNOWN, False), (SAID, True), (CHECKED, True)):
        threshold = held_out.thresholds(images, [0.1, 0.2, 0.3, 0.4], SETTINGS, how)["nut"]
        said = held_out.promise("nut", threshold, images, True, SETTINGS, "--unseen")
        assert ("--unseen" in said) == (not promised)


def test_the_promise_says_of_how_many_independent_images_it_is(images: list[GoodImage]) -> None:
    linked = [replace(images[0], linked="3"), replace(images[1], linked="3"), *images[2:]]
    threshold = held_out.thresholds(linked, [0.1, 0.4, 0.2, 0.3], SETTINGS, CHECKED)["nut"]
    assert threshold.scores == (0.2, 0.3, 0.4)
    assert "4 good images that are 3 independent ones" in held_out.promise("nut", threshold, linked, True, SETTINGS, "")
    of_one = [replace(linked[0], part="p"), linked[1], replace(linked[2], part="p"), linked[3]]
    assert len(held_out.thresholds(of_one, [0.1, 0.4, 0.2, 0.3], SETTINGS, CHECKED)["nut"].scores) == 2
    assert held_out.counted(of_one, True).startswith("4 images of 3 good parts that are 2 independent ones")
    assert held_out.counted(images, True) == "4 good images"
    assert "gate.ignore" in held_out.counted(images, False)


def test_the_table_of_scores_is_read_as_written(tmp_path: Path) -> None:
    lines = [HeldOutScore(f"a,{n}.png", "nut", 'p"1', f"{n:064x}", 0.1 + n / 3, "CPU") for n in range(3)]
    write_scores(lines, tmp_path / "scores.csv")
    assert read_scores(tmp_path / "scores.csv") == lines


@pytest.mark.parametrize("content", [None, "", "path,score\n", "path,score\na.png,high\n", "path,score\na.png,1,2\n"])
def test_a_damaged_table_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "scores.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=rf"^{file}"):
        read_scores(file)


def test_of_each_part_one_picture_is_known_and_not_always_the_same_view(images: list[GoodImage]) -> None:
    views = [replace(images[0], path=Path(f"{part}-{view}"), part=str(part)) for part in range(40) for view in (0, 1)]
    looks = [np.array([part, view], np.float32) for part in range(40) for view in (0, 1)]
    known = held_out.plausibility([replace(one, sha256=str(one.path)) for one in views], looks).looks["nut"]
    assert sorted(known[:, 0].tolist()) == list(range(40))
    assert 8 < known[:, 1].sum() < 32
    assert held_out.plausibility(images[:3], looks[:3]).looks == {}


def test_categories_that_are_not_checked_are_named(detector: Detector) -> None:
    detector.plausibility = Plausibility({"nut": np.zeros((10, 2), np.float32)})
    assert [line.split(":")[0] for line in held_out.unchecked(detector)] == ["bolt"]
