"""What is measured of a category's images: all of them, and each kind of defect with the good ones."""

from dataclasses import replace

import numpy as np
import pytest

from inpformer.metrics.image import image_metrics
from inpformer.metrics.settings import BootstrapSettings
from pipelines.compare.judgement import CategoryMeasurement
from pipelines.compare.kinds import kinds_of
from pipelines.compare.metrics import Measured
from pipelines.evaluate.measure import Judged
from pipelines.gate.linked import Linked
from tests.conftest import limits
from tests.evaluate.test_measure import row
from tests.evaluate.test_saturated import KINDS, judged, spro

DRAWS = BootstrapSettings(replicates=100)
LIMIT = limits(1.0)


def measured(images: list[Judged]) -> dict[str | None, dict[str, Measured]]:
    rows = [one.row for one in images]
    with CategoryMeasurement("nut", rows, Linked(True), LIMIT, DRAWS) as measurement:
        for one in images:
            measurement.add(one)
        return {kind: own for (_, kind), own in measurement.result().items()}


def enough(one: Judged) -> Judged:
    """With saturations in its row, as LOCO has them."""
    return replace(one, row=replace(one.row, saturations=[0.3] * one.row.label))


def test_each_kind_is_measured_with_the_good_images() -> None:
    images = [enough(judged(number)) for number in range(45)]
    found = measured(images)
    assert list(found) == [None, *KINDS[1:]]
    for kind, own in found.items():
        mine = [one for one in images if kind is None or one.row.defect in ("good", kind)]
        bad = [one for one in mine if one.row.label]
        scores, labels = np.array([one.score for one in mine]), np.array([one.row.label for one in mine])
        assert own["image_auroc"].value == pytest.approx(image_metrics(scores, labels).auroc)
        assert own["miss_rate"].value == pytest.approx(np.mean([one.score <= 1.0 for one in bad]))
        assert own["spro"].value == pytest.approx(spro(mine), abs=1e-7)
        assert own["image_auroc"].parts == min(15, len(bad))
        assert own["false_alarm_rate"].value == pytest.approx(
            np.mean([one.score > 1.0 for one in mine if not one.row.label])
        )
        assert own["false_alarm_rate"].parts == 15
        assert {own[name].parts for name in ("miss_rate", "pixel_ap", "aupro", "spro")} == {len(bad)}
        for one in own.values():
            assert one.replicates.shape == (100,)
            assert one.replicates.min() <= one.value <= one.replicates.max()


def test_what_a_category_lacks_is_not_there_and_one_kind_is_measured_once() -> None:
    plain = [judged(number) for number in range(30) if number % 3 < 2]
    found = measured(plain)
    assert found[None] is found["logical_anomalies"]
    assert set(found[None]) == {"miss_rate", "false_alarm_rate", "image_auroc", "pixel_ap", "aupro"}
    blind = [replace(one, mask=np.zeros_like(one.mask)) for one in plain]
    assert set(measured(blind)[None]) == {"miss_rate", "false_alarm_rate", "image_auroc"}


def test_draws_are_the_same_for_all_methods() -> None:
    """So that replicates of two are paired: of the same images another order of magnitude changes nothing."""
    images = [judged(number) for number in range(30)]
    scaled = [replace(one, score=3 * one.score, anomaly_map=3 * one.anomaly_map) for one in images]
    for kind, own in measured(images).items():
        np.testing.assert_array_equal(own["image_auroc"].replicates, measured(scaled)[kind]["image_auroc"].replicates)


def test_a_good_view_of_a_part_with_another_defect_says_nothing_of_a_kind() -> None:
    rows = [
        replace(row(0, 1, "a"), defect="dent"), row(1, 0, "a"),
        replace(row(2, 1, "b"), defect="scratch"), row(3, 0, "b"),
        row(4, 0, "c"), row(5, 0),
    ]  # fmt: skip
    assert kinds_of(rows, Linked()) == {
        "dent": {f"{n}.png" for n in (0, 1, 4, 5)},
        "scratch": {f"{n}.png" for n in (2, 3, 4, 5)},
    }
    joined = Linked(True, [["0.png", "5.png"]])  # a near duplicate shows the same part
    assert kinds_of(rows, joined)["scratch"] == {f"{n}.png" for n in (2, 3, 4)}
