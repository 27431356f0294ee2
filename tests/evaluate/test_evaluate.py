"""What evaluate refuses, keeps for the gallery, and writes as a table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpformer.errors import UserError
from inpformer.images.transform import read_image
from inpformer.judging.detector import Detector
from inpformer.judging.plausibility import Plausibility
from inpformer.metrics.proportion import Proportion
from inpformer.metrics.settings import BootstrapSettings
from pipelines.calibrate.judge import InProcess
from pipelines.evaluate import pictures
from pipelines.evaluate.measure import Judged, Parts, Report
from pipelines.evaluate.report import compared, doubts, mean, mean_intervals, summary, table
from pipelines.evaluate.settings import EvaluateSettings
from pipelines.evaluate.test_images import Gallery, check_setting, evaluate
from pipelines.gate.linked import Linked
from pipelines.manifest.table import Manifest
from tests.conftest import limits
from tests.evaluate.test_measure import row

NOTHING = np.zeros((4, 4), np.float32), np.zeros((4, 4), bool)


def report(**metrics: float) -> Report:
    """Each metric's replicates spread by ±0.1 around it."""
    spread = np.linspace(-0.1, 0.1, 101)
    replicates = {name: np.array([value, *(value + spread)]) for name, value in metrics.items()}
    parts = Parts(np.zeros(0), np.zeros(0, np.bool_))
    return Report(metrics, replicates, {}, [], np.zeros(0, np.float32), 0, parts, {0: 0, 1: 0})


def test_a_detector_is_not_measured_under_another_name(detector: Detector) -> None:
    manifest = Manifest(Path("data"), "1" * 64, [replace(row(0, 0), category="gear")], "mvtec", None)
    with pytest.raises(UserError, match="category gear has no threshold: it needs good images in val, for calibrate"):
        check_setting(detector, manifest)
    detector.thresholds["gear"] = limits(1.0)
    with pytest.raises(
        UserError, match=r"trained multi-class on bolt, nut, not on gear: set train\.setting to zero-sh"
    ):
        check_setting(detector, manifest)
    detector.learnt_from = replace(detector.learnt_from, setting="zero-shot")
    check_setting(detector, manifest)


@pytest.mark.parametrize("far", [0.0, 1e4])
def test_pictures_that_are_doubted_are_counted(detector: Detector, manifest: Manifest, far: float) -> None:
    pictures_of = [read_image(manifest.root / row.path) for row in manifest.split("train")]
    looks = detector.predict(pictures_of, ["nut"] * len(pictures_of)).looks
    detector.plausibility = Plausibility.of({"nut": looks + np.float32(far)})
    detector.thresholds = {"nut": limits(0.1)}
    settings = EvaluateSettings(bootstrap=BootstrapSettings(replicates=100))
    reports, _ = evaluate(manifest, InProcess(detector), settings, Linked())
    found = 1 if far else 0
    assert reports["nut"].doubted == {0: found, 1: found}
    assert f"{found} of 1 good and {found} of 1 defective" in doubts(reports, detector.plausibility)
    numbers = summary(reports, {}, (), settings.bootstrap)["doubted"]
    assert numbers == {"nut": {"good": found, "defective": found}}
    assert "not checked" in doubts(reports, Plausibility({}))


def test_the_gallery_shows_the_farthest_on_the_wrong_side_first() -> None:
    gallery = Gallery(3, {"nut": limits(1.0)})
    for number, (label, score) in enumerate([(0, 0.5), (0, 1.5), (1, 0.2), (1, 0.8), (1, 3.0), (0, 1.1)]):
        gallery.add(Judged(row(number, label), score, *NOTHING))
    assert [j.row.path for j in gallery.worst] == ["2.png", "1.png", "3.png"]


def test_means_are_over_the_categories_that_have_the_metric() -> None:
    reports = {
        "visa/candle": report(image_ap=0.6, aupro=0.5),
        "mvtec/nut": report(image_ap=0.8),
        "mvtec/bolt": report(image_ap=1.0, aupro=0.7),
    }
    assert mean(reports) == pytest.approx({"image_ap": 0.8, "aupro": 0.6})
    whole = summary(reports, {}, ["mvtec", "visa"], BootstrapSettings())
    assert whole["data_set"] == {
        "mvtec": pytest.approx({"image_ap": 0.9, "aupro": 0.7}),
        "visa": pytest.approx({"image_ap": 0.6, "aupro": 0.5}),
    }
    assert "data_set" not in summary(reports, {}, [], BootstrapSettings())


def test_the_mean_of_rates_has_an_interval_although_none_was_wrong() -> None:
    rate = Proportion(0, 20)
    reports = {name: replace(report(), metrics={"r": 0.0}, proportions={"r": rate}) for name in ("nut", "bolt")}
    assert reports["nut"].intervals(BootstrapSettings())["r"] == pytest.approx((0, 1 - 0.025 ** (1 / 20)))
    assert mean_intervals(reports, BootstrapSettings())["r"] == pytest.approx((0, 1 - 0.025 ** (1 / 40)))
    assert "| mean | 0.000 [0.000, 0.088] |" in table("multi-class", reports, BootstrapSettings())


def test_the_table_has_intervals_beside_the_numbers() -> None:
    lines = table("multi-class", {"nut": report(image_ap=0.6), "bolt": report(aupro=0.5)}, BootstrapSettings())
    assert "| nut | 0.600 [0.505, 0.695] | – |" in lines
    assert "| bolt | – | 0.500 [0.405, 0.595] |" in lines
    assert "| mean | 0.600 [0.505, 0.695] | 0.500 [0.405, 0.595] |" in lines
    assert "the 95% interval of 1000 bootstrap draws" in lines


def test_no_name_of_a_category_breaks_the_table_or_hides_in_it() -> None:
    lines = table(
        "multi-class", {"a|b": report(aupro=0.6), "mean": report(aupro=0.5)}, BootstrapSettings()
    ).splitlines()
    assert [line.rpartition(" | ")[0] for line in lines[4:]] == [r"| a\|b", "| mean", "| mean"]
    assert ["0.600" in lines[4], "0.500" in lines[5], "0.550" in lines[6]] == [True] * 3


def test_names_that_look_like_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    scores = pictures.CategoryScores(np.array([0.1, 0.4, 0.9], np.float32), np.array([0, 0, 1]), 0.5)
    for draw in (pictures.histograms, pictures.curves):
        draw({"nut $A^^ & $B": scores}, tmp_path / "drawn.png")
        assert (tmp_path / "drawn.png").stat().st_size > 0


@pytest.mark.parametrize("categories", [1, 15])
def test_the_picture_of_intervals_fits_a_page(tmp_path: Path, categories: int) -> None:
    metrics = {f"category {n}": {f"metric_{m}": 0.9 for m in range(11)} for n in range(categories)}
    bounds = {name: dict.fromkeys(values, (0.8, 1.0)) for name, values in metrics.items()}
    pictures.intervals(metrics, bounds, tmp_path)
    with Image.open(tmp_path / "intervals.png") as image:
        assert image.width <= 1100
        assert image.height <= 1.5 * image.width


def test_metrics_for_comparison_are_few_and_short_and_begin_with_the_misses() -> None:
    means = {"image_auroc": 0.95541666, "image_ap": 0.5, "miss_rate": 0.125, "false_alarm_rate": 1 / 60}
    assert list(compared(means).items()) == [
        ("miss_rate", 0.125),
        ("false_alarm_rate", 0.0167),
        ("image_auroc", 0.9554),
    ]


def test_the_miss_rate_leads_also_where_the_first_category_has_none() -> None:
    rate = {"miss_rate": Proportion(1, 4)}
    reports = {
        "bolt": report(image_auroc=0.9),
        "nut": replace(report(image_auroc=0.8), metrics={"miss_rate": 0.25, "image_auroc": 0.8}, proportions=rate),
    }
    assert list(mean(reports)) == ["miss_rate", "image_auroc"]
    bounds = summary(reports, {}, [], BootstrapSettings())["interval"]
    low, high = rate["miss_rate"].interval(0.95)
    for found in (bounds["mean"], bounds["category"]["nut"]):
        assert found == {"miss_rate": pytest.approx({"low": low, "high": high})}
    assert bounds["category"]["bolt"] == {}
