"""Whether a threshold's promise held on the good test parts: the numbers, the verdict and its tags."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from inpformer.judging.calibration import CHECKED, calibrate, calibrate_across
from inpformer.judging.settings import CalibrationSettings
from inpformer.metrics.fresh import tail_at, tail_on_average
from pipelines.evaluate.good_parts import outcomes_of
from pipelines.evaluate.measure import Parts
from pipelines.evaluate.promise import (
    BROKEN_TAG,
    HELD,
    HELD_TAG,
    NAMED,
    NOT_HELD,
    NOT_TESTED,
    Outcome,
    promise_tags,
    read_outcomes,
    verdict,
)
from pipelines.evaluate.remedies import remedies

FIFTY = CalibrationSettings(0.05)  # at 50 images: the second highest, 2 of 51


def cast_parts(failing: int, categories: int = 1, settings: CalibrationSettings = FIFTY) -> dict[str, Outcome]:
    """78 good test parts of which so many FAIL in the first category, and none in the others; 50 held-out ones."""
    names = [f"part {n}" for n in range(categories)]
    held = np.linspace(0, 1, 50).tolist()
    thresholds = calibrate(dict.fromkeys(names, held), settings, CHECKED)
    parts = {}
    for number, name in enumerate(names):
        above = failing if number == 0 else 0
        scores = np.append(np.linspace(0.01, 0.5, 78 - above), np.full(above, 2.0) + np.arange(above))
        parts[name] = Parts(np.append(scores, 5.0), np.arange(79) == 78)  # one defective, far above
    return outcomes_of(parts, thresholds)


def test_the_cast_parts_of_the_issue_did_not_keep_their_promise() -> None:
    found = cast_parts(13)["part 0"]
    assert (found.good_parts, found.false_alarms, found.held_out_parts) == (78, 13, 50)
    assert found.bound == pytest.approx(2 / 51)
    assert found.p_value == found.corrected == pytest.approx(tail_on_average(13, 78, 50, 49))
    assert found.p_value == pytest.approx(0.00693, abs=1e-5)
    assert not found.held
    for number in ("13 of 78", "3.92%", "0.0069"):
        assert number in found.sentence("part 0")


@pytest.mark.parametrize("settings", [FIFTY, CalibrationSettings(0.2, 0.95)])
def test_as_many_as_are_unsurprising_hold_and_one_more_does_not(settings: CalibrationSettings) -> None:
    most = cast_parts(0, settings=settings)["part 0"].unsurprising
    assert 0 < most < 78
    assert cast_parts(most, settings=settings)["part 0"].held
    assert not cast_parts(most + 1, settings=settings)["part 0"].held


def test_a_promise_with_confidence_is_held_against_its_bound() -> None:
    found = cast_parts(20, settings=CalibrationSettings(0.2, 0.95))["part 0"]
    assert found.confidence == 0.95
    assert found.p_value == pytest.approx(tail_at(20, 78, found.bound))


def test_several_categories_are_corrected_for_each_other() -> None:
    alone, of_nine = cast_parts(13)["part 0"], cast_parts(13, 9)["part 0"]
    assert (alone.p_value, of_nine.p_value) == pytest.approx((0.00693, 0.00693), abs=1e-5)
    assert of_nine.corrected == pytest.approx(9 * of_nine.p_value)
    assert (alone.held, of_nine.held) == (False, True)


def test_kept_promises_are_seldom_called_broken_in_any_of_several_categories() -> None:
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(300):
        held = {f"{n}": rng.random(30).tolist() for n in range(3)}
        parts = {name: Parts(rng.random(40), np.zeros(40, np.bool_)) for name in held}
        called += not all(found.held for found in outcomes_of(parts, calibrate(held, FIFTY, CHECKED)).values())
    assert called / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_scores_from_another_production_are_said_though_the_rate_held() -> None:
    held = np.linspace(0, 1, 40).tolist()
    for scores, words in (([0.9] * 25, "higher"), ([0.05] * 25, "lower"), (held[5:30], None)):
        parts = {"nut": Parts(np.array(scores), np.zeros(25, np.bool_))}
        found = outcomes_of(parts, calibrate({"nut": held}, FIFTY, CHECKED))["nut"]
        assert found.held
        assert found.shift_corrected is not None
        assert (found.shift_corrected < 0.05) == (words is not None)
        assert words is None or words in found.sentence("nut")


def test_scores_of_models_of_folds_are_counted_and_not_compared() -> None:
    settings = CalibrationSettings(0.2, folds=5)
    limits = calibrate_across("nut", np.linspace(0, 1, 50).tolist(), [n % 5 for n in range(50)], settings)
    parts = {"nut": Parts(np.append(np.zeros(30), np.full(30, 2.0)), np.zeros(60, np.bool_))}
    found = outcomes_of(parts, {"nut": limits})["nut"]
    above = math.ceil(limits.false_alarm_rate * 51)  # the bound lies between two places, 9.4
    assert found.p_value == pytest.approx(tail_on_average(30, 60, 50, 51 - above))
    assert (found.held, found.higher, found.shift_p_value) == (False, None, None)
    numbers = {"promise": {"nut": found.numbers}}
    assert read_outcomes(numbers) == {"nut": found}
    assert "score" not in found.sentence("nut")
    assert remedies(parts, {"nut": limits}, 0.2).splitlines()[-1].endswith("– |")


def test_two_parts_cannot_show_a_broken_promise() -> None:
    parts = {"nut": Parts(np.array([9.0, 8.0]), np.zeros(2, np.bool_))}
    found = outcomes_of(parts, calibrate({"nut": [1.0]}, FIFTY, CHECKED))["nut"]
    assert found.held
    assert found.unsurprising == 2
    assert "could not show" in found.sentence("nut")


def test_a_category_without_good_parts_is_not_tested() -> None:
    parts = {"nut": Parts(np.array([1.0]), np.array([True]))}
    assert outcomes_of(parts, calibrate({"nut": [1.0]}, FIFTY, CHECKED)) == {}
    assert promise_tags({"promise": {}}) == promise_tags({}) == {HELD_TAG: NOT_TESTED}


def test_the_numbers_are_read_back_and_make_the_tags() -> None:
    for outcomes in (cast_parts(13, 2), cast_parts(30, 2, CalibrationSettings(0.2, 0.95))):
        numbers = {"promise": {name: found.numbers for name, found in outcomes.items()}}
        assert all(isinstance(value, int | float) for found in numbers["promise"].values() for value in found.values())
        assert read_outcomes(json.loads(json.dumps(numbers))) == outcomes
        tags = promise_tags(numbers)
        assert tags[HELD_TAG] == NOT_HELD
        assert tags[BROKEN_TAG].startswith("part 0: ")
        assert "part 1" not in tags[BROKEN_TAG]
        assert tags[BROKEN_TAG] in verdict(numbers)
    assert promise_tags({"promise": {"nut": cast_parts(2)["part 0"].numbers}}) == {HELD_TAG: HELD}


def test_many_broken_promises_fit_a_description() -> None:
    broken = replace(cast_parts(13)["part 0"])
    numbers = {"promise": {"x" * 90 + f"{n}": broken.numbers for n in range(50)}}
    assert len(verdict(numbers)) < 2500
    assert f"{50 - NAMED} more" in verdict(numbers)
