"""Thresholds of one device on another: rounding is let pass, other decisions are not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpformer.errors import UserError
from inpformer.judging.calibration import Threshold, calibrate
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL
from inpformer.judging.settings import CalibrationSettings
from pipelines.calibrate.other_device import check_on_cpu, compare, nearest


def made(scores: Sequence[float], review_rate: float = 0.0) -> Threshold:
    return calibrate({"nut": scores}, CalibrationSettings(0.05, None, review_rate))["nut"]


SCORES = np.linspace(0.2, 0.39, 20)
LIMITS = made(SCORES.tolist(), review_rate=0.2)


def flipped(others: np.ndarray) -> list[int]:
    return compare(SCORES.tolist(), others.tolist(), [LIMITS] * len(SCORES)).flipped


def test_the_usual_distance_is_a_parts_from_the_threshold() -> None:
    assert LIMITS.threshold == pytest.approx(0.39)
    assert LIMITS.usual_distance == pytest.approx(0.095)


@pytest.mark.parametrize("seed", range(5))
def test_rounding_moves_the_image_on_the_threshold_and_flips_nothing(seed: int) -> None:
    noise = np.random.default_rng(seed).uniform(-5e-4, 5e-4, 20)
    noise[-1] = 5e-4  # above the threshold that it set
    found = compare(SCORES.tolist(), (SCORES + noise).tolist(), [LIMITS] * 20)
    assert found.flipped == []
    assert found.largest == pytest.approx(5e-4)
    assert found.share == pytest.approx(5e-4 / 0.095)


def test_a_decision_that_changes_is_found_at_either_limit() -> None:
    assert LIMITS.review_threshold == pytest.approx(SCORES[15])
    for place, difference, expected in ((19, 0.02, [19]), (18, 0.02, [18]), (16, -0.03, [16]), (15, 0.004, [15])):
        others = SCORES.copy()
        others[place] += difference
        assert flipped(others) == expected
    assert flipped(SCORES - 0.004) == []  # none crosses


def test_a_shift_of_all_scores_is_found_by_the_image_on_the_threshold() -> None:
    assert 19 in flipped(SCORES * 1.01)
    assert flipped(SCORES * 1.0001) == []


def test_one_image_has_no_distance_and_may_round() -> None:
    alone = made([0.5])
    assert compare([0.5], [0.5], [alone]).share == 0
    assert compare([0.5], [0.500002], [alone]).flipped == []
    assert compare([0.5], [0.51], [alone]).flipped == [0]


def test_the_nearest_of_each_category_are_asked() -> None:
    limits = {"nut": LIMITS, "bolt": made([1.0, 2.0, 3.0])}
    scores, categories = [*SCORES.tolist(), 1.0, 3.0, 2.0], ["nut"] * 20 + ["bolt"] * 3
    chosen = nearest(scores, categories, limits)
    assert chosen[:3] == [21, 22, 20]
    assert {15, 19} < set(chosen[3:])
    assert len(chosen) == 11


def test_a_detector_is_asked_on_the_cpu(detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{n}.png" for n in range(6)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(file)
    categories = ["nut"] * len(files)
    scores = [float(detector.predict([Image.open(file)], ["nut"]).scores[0]) for file in files]
    detector.thresholds = {"nut": made(scores)}
    check_on_cpu(detector, files, categories, scores, "a GPU")
    assert "a GPU" in capsys.readouterr().out
    second, highest = np.argsort(scores)[-2:]
    elsewhere = list(scores)
    elsewhere[highest] = scores[second]  # there the two are equal, and neither is above the threshold
    detector.thresholds = {"nut": made(elsewhere)}
    with pytest.raises(UserError, match=rf"a GPU.*{files[highest]}"):
        check_on_cpu(detector, files, categories, elsewhere, "a GPU")


def test_a_saved_model_that_is_another_is_refused(detector: Detector, tmp_path: Path) -> None:
    file = tmp_path / "0.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(file)
    score = float(detector.predict([Image.open(file)], ["nut"]).scores[0])
    detector.thresholds = {"nut": made([score])}
    detector.models[ALL].network.prototype_token.data.mul_(-3.0)
    detector.models[ALL].network.bottleneck.fc2.weight.data.mul_(-1.0)
    before, after = score, float(detector.predict([Image.open(file)], ["nut"]).scores[0])
    assert abs(before - after) > 1e-4
    detector.thresholds = {"nut": made([min(before, after)])}
    with pytest.raises(UserError):
        check_on_cpu(detector, [file], ["nut"], [before], "CPU")
