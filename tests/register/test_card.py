"""The model card: what tools read of it, and what people do."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from inpformer.encoders.encoder import Encoder
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL
from inpformer.methods import METHODS
from pipelines.manifest.table import Manifest
from pipelines.register.card import read
from tests.conftest import MULTI, limits

MADE_OF = {"run_id": "r1", "git.commit": "c0ffee", "git.uncommitted": ["params.yaml"]}
NUMBERS = {"mean": {"miss_rate": 0.25, "image_auroc": 0.75, "image_ap": 0.5}}


def card(detector: Detector, manifest: Manifest, folder: Path, **changed: Any) -> str:
    (folder / "metrics.md").write_text("the report of evaluate\n")
    detector.save(folder / "detector")
    made_of = MADE_OF | changed
    return read("m", "multi-class", manifest, NUMBERS, folder / "metrics.md", folder / "detector", made_of).text


def test_tools_read_its_numbers(detector: Detector, manifest: Manifest, tmp_path: Path) -> None:
    data = ModelCard(card(detector, manifest, tmp_path)).data
    assert (data.model_name, data.library_name, data.base_model) == ("m", "inpformer", "timm/tf_efficientnet_lite0")
    found = {one.metric_type: one.metric_value for one in data.eval_results}
    assert found == {"miss_rate": 0.25, "image_auroc": 0.75}
    assert {one.dataset_revision for one in data.eval_results} == {manifest.digest}
    assert {"anomaly-detection", "multi-class", "inp_former"} <= set(data.tags)


def test_people_read_data_thresholds_and_code(detector: Detector, manifest: Manifest, tmp_path: Path) -> None:
    text = card(detector, manifest, tmp_path)
    counts = [sum(row.split == split for row in manifest.rows) for split in ("train", "val")]
    assert f"| nut | {counts[0]} | {counts[1]} | 1 | 1 |" in text
    assert "| category | good, trained on | good, held out |" in text
    assert "the report of evaluate" in text
    limits = {name: json.loads((tmp_path / "detector/calibration.json").read_text())[name] for name in ("nut", "bolt")}
    for name, one in limits.items():
        assert f"| {name} | {one['threshold']:.4f} | {one['review_threshold']:.4f} | 1.00%" in text
    assert "c0ffee, changed in params.yaml" in text


@pytest.mark.parametrize(("changed", "said"), [(None, "is not known"), ([], "unchanged")])
def test_it_says_what_is_known_of_the_code(
    detector: Detector, manifest: Manifest, tmp_path: Path, changed: list[str] | None, said: str
) -> None:
    assert f"c0ffee, {'whether it was changed ' if changed is None else ''}{said};" in card(
        detector, manifest, tmp_path, **{"git.uncommitted": changed}
    )


def test_of_a_method_that_learns_nothing_no_image_was_trained_on(
    encoder: Encoder, manifest: Manifest, tmp_path: Path
) -> None:
    grnr = METHODS["grnr"]
    own = grnr.settings(neighbours=5)
    made = Detector(encoder, grnr, own, {ALL: grnr.make(own, encoder.shape)}, MULTI, {"nut": limits(1.0)})
    assert "| category | good, not used | good, held out |" in card(made, manifest, tmp_path)


def test_a_name_breaks_neither_table_nor_metadata(detector: Detector, manifest: Manifest, tmp_path: Path) -> None:
    odd = "a|b: 'c'\n---\n# d"
    rows = [replace(row, category=odd) for row in manifest.rows]
    detector.thresholds[odd] = detector.thresholds.pop("nut")
    text = card(detector, replace(manifest, rows=rows, root=Path("/data/x: '1'")), tmp_path)
    assert ModelCard(text).data.eval_results[0].dataset_name == "x: '1'"
    for line in text.splitlines():
        if line.startswith("|") and "---" not in line:
            assert len(line.replace("\\|", "").split("|")) in (7, 8)
    assert "\n# d" not in text
