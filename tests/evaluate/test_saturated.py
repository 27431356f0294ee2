"""sPRO and the kinds of defect apart: of which images each figure is, and that evaluate measures them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inpformer.judging.detector import Detector
from inpformer.metrics.image import image_metrics
from inpformer.metrics.pixel_scores import Regions
from inpformer.metrics.settings import BootstrapSettings
from inpformer.metrics.spro import SproStream
from pipelines.calibrate.judge import InProcess
from pipelines.evaluate.measure import Judged, Measurement, Report
from pipelines.evaluate.saturated import regions_of
from pipelines.evaluate.settings import EvaluateSettings
from pipelines.evaluate.test_images import evaluate
from pipelines.gate.linked import Linked
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from tests.conftest import limits
from tests.evaluate.test_measure import row

SETTINGS = BootstrapSettings(replicates=100)
KINDS = ("good", "logical_anomalies", "structural_anomalies")


def judged(number: int) -> Judged:
    """Good images and those of both kinds in turn; logical ones have two regions that overlap."""
    rng = np.random.default_rng(number)
    kind = KINDS[number % 3]
    masks = np.zeros((number % 3 and 3 - number % 3, 32, 32), np.bool_)
    for mask, start in zip(masks, (4, 10), strict=False):
        mask[start : start + 9, 8:20] = True
    anomaly_map = (rng.random((32, 32)) + masks.any(axis=0) * rng.uniform(0, 1)).astype(np.float32)
    regions = Regions(masks, masks.sum(axis=(1, 2)) * 0.3)
    one = replace(row(number, int(kind != "good")), defect=kind)
    return Judged(one, float(rng.random() + (number % 3) / 3), anomaly_map, masks.any(axis=0), False, regions)


def measured(images: list[Judged], saturated: bool = True) -> Report:
    with Measurement(SETTINGS, Linked(True), saturated=saturated) as measurement:
        for image in images:
            measurement.add(image)
        return measurement.report(limits(1.0))


def spro(images: list[Judged]) -> float:
    with SproStream() as stream:
        for one in images:
            assert one.regions is not None
            stream.add(one.anomaly_map, one.regions)
        return stream.result()


def test_each_kind_is_measured_with_the_good_images() -> None:
    images = [judged(number) for number in range(45)]
    found, bounds = measured(images), measured(images).intervals(SETTINGS)
    groups = {"": KINDS, "_logical": KINDS[:2], "_structural": (KINDS[0], KINDS[2])}
    for ending, kinds in groups.items():
        own = [one for one in images if one.row.defect in kinds]
        auroc = image_metrics(np.array([one.score for one in own]), np.array([one.row.label for one in own])).auroc
        wanted = {f"spro{ending}": spro(own), f"image_auroc{ending}": auroc}
        for name, value in wanted.items():
            assert found.metrics[name] == pytest.approx(value, abs=1e-7), name
            assert bounds[name][0] < value < bounds[name][1], name
    assert found.metrics["spro_logical"] != found.metrics["spro_structural"]
    assert not {name for name in measured(images, saturated=False).metrics if "spro" in name or "logical" in name}


def test_what_has_no_mask_counts_for_image_metrics_alone() -> None:
    images = [judged(number) for number in range(15)]
    nothing = np.zeros((32, 32), np.bool_)
    odd = replace(judged(16), mask=nothing, regions=None)
    with_odd, without = measured([*images, odd]).metrics, measured(images).metrics
    assert with_odd["spro"] == without["spro"]
    assert with_odd["image_auroc_logical"] != without["image_auroc_logical"]
    structural = [one for one in images if one.row.defect != "logical_anomalies"]
    left = measured([*structural, odd]).metrics
    assert {"spro", "spro_structural", "image_auroc_logical"} < set(left)
    assert "spro_logical" not in left


def draw(file: Path, pixels: NDArray[np.uint8]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def test_evaluate_reads_the_regions_of_a_data_set_of_loco(detector: Detector, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    places = [*(f"train/good/{n}" for n in range(4)), "validation/good/0", *(f"test/good/{n}" for n in range(2))]
    for place in (*places, "test/logical_anomalies/0", "test/structural_anomalies/0"):
        draw(tmp_path / f"nut/{place}.png", rng.integers(0, 256, (80, 80, 3), np.uint8))
    for name, value, area in (("logical_anomalies/0/000", 9, 20), ("structural_anomalies/0/000", 8, 10)):
        mask = np.zeros((80, 80), np.uint8)
        mask[10 : 10 + area, 10 : 10 + area] = value
        draw(tmp_path / f"nut/ground_truth/{name}.png", mask)
    kinds = [
        {"defect_name": "missing", "pixel_value": 9, "saturation_threshold": 100, "relative_saturation": False},
        {"defect_name": "scratch", "pixel_value": 8, "saturation_threshold": 1.0, "relative_saturation": True},
    ]
    (tmp_path / "nut/defects_config.json").write_text(json.dumps(kinds))
    manifest = build_manifest(tmp_path, ManifestSettings("unused"))
    logical = next(one for one in manifest.rows if one.defect == "logical_anomalies")
    regions = regions_of(logical, manifest.root, detector)
    assert regions is not None
    # 20 of 80 pixels a side are 64 of the map's 256; a quarter of the region is enough.
    assert regions.masks.shape == (1, 256, 256)
    assert regions.masks.sum() == pytest.approx(64**2, rel=0.05)
    assert regions.saturation == pytest.approx([regions.masks.sum() / 4])
    detector.thresholds = {"nut": limits(0.1)}
    reports, _ = evaluate(manifest, InProcess(detector), EvaluateSettings(bootstrap=SETTINGS), Linked())
    found = reports["nut"].metrics
    assert {"spro", "spro_logical", "spro_structural", "image_auroc_logical", "image_auroc_structural"} < set(found)
