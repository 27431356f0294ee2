"""What the report says would lower the miss rate."""

import numpy as np
import pytest

from inpformer.judging.calibration import CHECKED, Threshold, calibrate, calibrate_across
from inpformer.judging.settings import CalibrationSettings
from pipelines.evaluate.measure import Parts
from pipelines.evaluate.remedies import COLUMNS, remedies, weaker


def threshold(images: int, rate: float, confidence: float | None = None, review_rate: float = 0.0) -> Threshold:
    scores = [float(n) for n in range(1, images + 1)]
    return calibrate({"nut": scores}, CalibrationSettings(rate, confidence, review_rate), CHECKED)["nut"]


def row(parts: Parts, limits: Threshold, rate: float) -> dict[str, str]:
    line = remedies({"nut": parts}, {"nut": limits}, rate).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split(" | ")]
    return dict(zip(COLUMNS, cells, strict=True))


@pytest.mark.parametrize(
    ("images", "rate", "confidence", "to_keep", "to_spare"),
    [
        (7, 0.05, None, "12", "32"),  # 19 keep it with the highest score, 39 with the second highest
        (30, 0.05, None, "none", "9"),
        (39, 0.05, None, "none", "none"),
        (59, 0.05, 0.95, "none", "34"),  # 59 and 93
        (93, 0.05, 0.95, "none", "none"),
    ],
)
def test_how_many_more_parts_it_takes(
    images: int, rate: float, confidence: float | None, to_keep: str, to_spare: str
) -> None:
    found = row(Parts(np.array([1.0, 99.0]), np.array([False, True])), threshold(images, rate, confidence), rate)
    assert found["held-out parts"] == f"{images}"
    assert [found[column] for column in COLUMNS[3:5]] == [to_keep, to_spare]
    highest_sets_it = threshold(images, rate, confidence).threshold == images
    assert highest_sets_it == (to_spare != "none")


def test_twice_the_rate_is_the_next_ranks_with_as_much_to_review() -> None:
    limits = threshold(39, 0.05, review_rate=0.1)  # two of the 40 places above, four to REVIEW
    other = weaker(limits)
    assert other is not None
    assert (limits.threshold, limits.review_threshold) == (38, 34)
    assert (other.threshold, other.review_threshold) == (36, 32)
    assert other.false_alarm_rate == pytest.approx(2 * limits.false_alarm_rate)
    parts = Parts(np.array([5.0, 31.5, 33.0, 40.0]), np.array([False, True, True, True]))
    found = row(parts, limits, 0.05)
    assert found["misses"] == "0.667 (2 of 3)"
    assert found["misses at twice the promise"].startswith("0.333 (1 of 3)")


def test_there_is_no_twice_of_more_than_half() -> None:
    limits = threshold(1, 0.05)
    assert limits.false_alarm_rate == 0.5
    assert weaker(limits) is None
    assert row(Parts(np.array([2.0]), np.array([True])), limits, 0.05)["misses at twice the promise"] == "–"


def test_a_category_without_defective_parts_has_no_misses() -> None:
    assert row(Parts(np.array([2.0]), np.array([False])), threshold(19, 0.05), 0.05)["misses"] == "–"


def test_of_folds_it_is_not_said_what_another_threshold_would_miss_as_scores_follow_it() -> None:
    limits = calibrate_across("nut", np.arange(39.0).tolist(), list(range(39)), CalibrationSettings(0.05, folds=39))
    assert weaker(limits) is None
    found = row(Parts(np.array([1.0, 99.0]), np.array([False, True])), limits, 0.05)
    assert [found[column] for column in COLUMNS[3:5]] == ["none", "–"]
