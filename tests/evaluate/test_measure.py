"""A category's numbers: which images count for what, parts with several views, shares at the thresholds."""

from dataclasses import replace

import numpy as np
import pytest

from inpformer.errors import UserError
from inpformer.judging.calibration import Threshold
from inpformer.metrics.image import image_metrics
from inpformer.metrics.pixel import pixel_metrics
from inpformer.metrics.proportion import Proportion
from inpformer.metrics.settings import BootstrapSettings
from pipelines.evaluate.measure import Judged, Measurement, Report, judged_parts, rates
from pipelines.gate.linked import Linked, numbered
from pipelines.manifest.table import Row
from tests.conftest import limits

SETTINGS = BootstrapSettings(replicates=100)
ALONE = Linked(True)


def row(number: int, label: int, part: str = "") -> Row:
    return Row(
        f"{number}.png", "nut", "test", label, "chip" if label else "good", [], 127, 0, 64, 64, f"{number:064x}", part
    )


def judged(number: int, label: int, masked: bool = True, part: str = "") -> Judged:
    rng = np.random.default_rng(number)
    mask = np.zeros((64, 64), bool)
    if label and masked:
        mask[10:20, 10:20] = True
    anomaly_map = (rng.random((64, 64)) + mask).astype(np.float32)
    return Judged(row(number, label, part), float(rng.random() + 0.5 * label), anomaly_map, mask)


def measured(images: list[Judged], linked: Linked = ALONE) -> Report:
    with Measurement(SETTINGS, linked) as measurement:
        for image in images:
            measurement.add(image)
        return measurement.report(limits(1.0, review=0.5))


def test_the_stream_gives_the_numbers_of_the_whole() -> None:
    images = [judged(n, n % 2) for n in range(30)]
    report = measured(images)
    scores, labels = np.array([j.score for j in images], np.float32), np.array([j.row.label for j in images])
    whole = pixel_metrics(np.stack([j.anomaly_map for j in images]), np.stack([j.mask for j in images]))
    assert report.metrics["image_auroc"] == pytest.approx(image_metrics(scores, labels).auroc)
    assert report.metrics["aupro"] == pytest.approx(whole.aupro)
    assert report.metrics["pixel_ap"] == pytest.approx(whole.ap)
    bounds = report.intervals(SETTINGS)
    assert bounds["image_auroc"][0] < report.metrics["image_auroc"] < bounds["image_auroc"][1]
    assert list(bounds) == list(report.metrics)
    assert list(bounds)[:3] == ["miss_rate", "false_alarm_rate", "image_auroc"]
    assert "part_auroc" not in report.metrics


def test_an_anomalous_image_without_a_mask_counts_for_image_metrics_only() -> None:
    images = [judged(n, n % 2) for n in range(20)]
    with_odd = measured([*images, judged(99, 1, masked=False)])
    assert with_odd.unmasked == 1
    assert with_odd.metrics["pixel_auroc"] == measured(images).metrics["pixel_auroc"]
    assert with_odd.metrics["image_ap"] != measured(images).metrics["image_ap"]


def test_without_any_mask_there_are_no_pixel_metrics() -> None:
    report = measured([judged(n, n % 2, masked=False) for n in range(10)])
    assert not [name for name in report.metrics if name.startswith("pixel") or name == "aupro"]
    assert {"image_auroc", "image_ap", "image_f1max", "miss_rate"} <= set(report.intervals(SETTINGS))


def rated(rows: list[Row], scores: list[float], linked: Linked, limits: Threshold) -> dict[str, Proportion]:
    return rates(judged_parts(rows, scores, numbered(rows, linked)), limits)


def test_shares_at_the_thresholds() -> None:
    images = [
        Judged(row(n, label), score, np.zeros((4, 4), np.float32), np.zeros((4, 4), bool))
        for n, (label, score) in enumerate([(0, 0.4), (0, 0.6), (0, 1.2), (0, 0.1), (1, 0.4), (1, 0.7), (1, 2.0)])
    ]
    shares = measured(images).metrics
    assert (shares["false_alarm_rate"], shares["review_rate"]) == (0.25, 0.25)
    assert shares["miss_rate"] == pytest.approx(1 / 3)


def test_rates_count_parts() -> None:
    views = [("a", 0, 0.1), ("a", 0, 1.3), ("b", 0, 0.7), ("b", 0, 0.2), ("", 0, 0.3), ("c", 1, 0.1), ("c", 0, 0.4)]
    views += [("d", 1, 0.2), ("d", 1, 0.8), ("", 0, 0.3)]
    rows = [row(n, label, part) for n, (part, label, _) in enumerate(views)]
    rows[-1] = replace(rows[-1], sha256=rows[4].sha256)  # a copy is no further part
    found = rated(rows, [score for *_, score in views], ALONE, limits(1.0, review=0.5))
    assert found == {
        "false_alarm_rate": Proportion(1, 3),
        "review_rate": Proportion(1, 3),
        "miss_rate": Proportion(1, 2),
    }


def test_what_no_part_has_has_no_rate() -> None:
    rows = [row(0, 1, "a"), row(1, 0, "a")]  # the good view of a defective part
    assert rated(rows, [0.1, 0.2], ALONE, limits(1.0)) == {"miss_rate": Proportion(1, 1)}


def test_linked_images_are_one_part_in_rates_and_draws() -> None:
    rows = [row(n, int(n == 4)) for n in range(5)]
    linked = Linked(True, [["0.png", "2.png"]])
    found = rated(rows, [0.1, 1.2, 1.3, 0.2, 2.0], linked, limits(1.0))
    assert found["false_alarm_rate"] == Proportion(2, 3)
    images = [judged(n, n % 2) for n in range(30)]
    all_good = Linked(True, [[f"{n}.png" for n in range(0, 30, 2)]])
    wide, narrow = measured(images), measured(images, all_good)
    assert narrow.parts.good.size == 1
    assert narrow.metrics["image_auroc"] == wide.metrics["image_auroc"]
    # One good part is drawn each time: only the defective ones vary.
    assert narrow.replicates["image_auroc"].std() != wide.replicates["image_auroc"].std()


def test_a_part_is_as_bad_as_its_worst_view() -> None:
    views = [("a", 0, 0.1), ("a", 0, 0.3), ("b", 0, 0.2), ("b", 1, 0.9), ("c", 0, 0.5), ("c", 0, 0.2), ("d", 1, 0.4)]
    images = [
        Judged(row(n, label, part), score, np.zeros((4, 4), np.float32), np.zeros((4, 4), bool))
        for n, (part, label, score) in enumerate(views)
    ]
    # Parts by score: b .9 (bad), c .5, d .4 (bad), a .3: of four pairs of bad and good three are in order.
    assert measured(images).metrics["part_auroc"] == 0.75


def test_good_images_alone_are_refused() -> None:
    with pytest.raises(UserError, match="both normal and anomalous images"):
        measured([judged(n, 0) for n in range(4)])
