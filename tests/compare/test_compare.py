"""The command on a real Ray: interrupted, it goes on from what is finished, and leaves a page, numbers and runs."""

import csv
import json
import os
import shutil
import signal
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from inpformer.encoders.encoder import Encoder
from inpformer.errors import StaleFeaturesError, UserError
from inpformer.judging.detector import Detector
from pipelines.compare.__main__ import main
from pipelines.compare.asked import ask
from pipelines.compare.data import open_data
from pipelines.compare.judgement import read_judgement
from pipelines.compare.trainings import plan
from pipelines.features.index import compute_features, write_index
from pipelines.features.settings import FeatureSettings
from pipelines.gate.linked import Linked, write_linked
from pipelines.manifest.table import Manifest, read_manifest, write_manifest
from pipelines.platform.params import flat
from tests.promote.products import products

METHODS, EPOCHS = ("inp_former", "nearest"), 12
TRAIN = {
    "batch_size": 8,
    "checkpoint_every": 1,
    "inp_former": {"grid": 4, "channels": 32, "epochs": EPOCHS, "fewest_steps": 0, "warmup": 5},
    "nearest": {"grid": 4, "channels": 32},
}


@dataclass(frozen=True)
class Place:
    """A working directory after the stages; `call` runs the command in it and returns what it printed."""

    folder: Path
    manifest: Manifest

    def call(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["compare", "--methods", *METHODS, "--seeds", "2"])
            main()

    @property
    def args(self) -> Namespace:
        names = {"manifest": "manifest.parquet", "features": "features.json", "linked": "linked.json"}
        return Namespace(**{name: self.folder / "artifacts" / file for name, file in names.items()})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, empty: Path, ray_cluster: str) -> Iterator[Place]:
    """Two products; of one a defective picture is in val, and its file is gone since, as nothing may read it."""
    folder = tmp_path_factory.mktemp("compare")
    made = products(folder / "data")
    unused = next(row.path for row in made.rows if row.label)
    rows = [replace(row, split="val") if row.path == unused else row for row in made.rows]
    manifest = replace(made, rows=rows)
    (made.root / unused).unlink()
    write_manifest(manifest, folder / "artifacts/manifest.parquet")
    write_linked(Linked(True), folder / "artifacts/linked.json")
    stored = FeatureSettings(encoder.settings, store=str(folder / "store"))
    write_index(compute_features(manifest, encoder, stored), folder / "artifacts/features.json")
    settings = {"resize": 64, "crop": 64, "levels": [4, 8, 16, 32]}
    params = {
        "features": {"encoder": settings, "store": stored.store},
        "train": {**TRAIN, "storage": str(folder / "runs")},
        "calibrate": {"false_alarm_rate": 0.2, "review_rate": 0.05, "folds": 4},
        "promote": {"replicates": 500, "confidence": 0.9},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copy(empty, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield Place(folder, read_manifest(folder / "artifacts/manifest.parquet"))


def ctrl_c_once(there: Callable[[], bool]) -> threading.Thread:
    """Interrupts this process as a person would, when something is there."""

    def watch() -> None:
        while not there():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    return watcher


@pytest.fixture(scope="module")
def finished(place: Place) -> tuple[Place, dict[Path, float]]:
    """After a call that was interrupted in the middle and one that went on; with when what was kept by then was."""
    watcher = ctrl_c_once(lambda: len(list(place.folder.glob("artifacts/compare/trained/[!.]*/training.json"))) > 0)
    with pytest.raises(KeyboardInterrupt):
        place.call()
    watcher.join()
    kept = {file: file.stat().st_mtime for file in place.folder.glob("artifacts/compare/trained/*/training.json")}
    assert not (place.folder / "reports/compare").exists()
    place.call()
    return place, kept


def numbers_of(place: Place) -> dict:
    return json.loads((place.folder / "reports/compare/comparison.json").read_text())


def test_what_was_finished_is_not_done_again(finished: tuple[Place, dict[Path, float]]) -> None:
    place, kept = finished
    trained = list(place.folder.glob("artifacts/compare/trained/*"))
    assert 1 <= len(kept) < len(trained) == 4
    assert all(file.stat().st_mtime == when for file, when in kept.items())
    assert not list((place.folder / "runs").iterdir())  # what is kept needs no checkpoints
    asked = ask(METHODS, 2, place.folder / "artifacts/manifest.parquet")
    planned = plan(asked.trainings, open_data(place.args, asked.methods), Path("artifacts/compare"))
    assert [one.name for one in planned] == [f"{method}, seed {seed}" for method in METHODS for seed in (1, 2)]
    assert all(one.finished for one in planned)
    assert len(planned[0].record["history"]) == EPOCHS
    assert all(one.record["seconds"] > 0 for one in planned)


def test_all_promise_the_same_and_have_seen_no_held_out_image(finished: tuple[Place, dict[Path, float]]) -> None:
    place, _ = finished
    detectors = [Detector.load(folder) for folder in place.folder.glob("artifacts/compare/judged/*/detector")]
    assert sorted(one.method.name for one in detectors) == ["inp_former", "inp_former", "nearest", "nearest"]
    promises = {(name, t.false_alarm_rate, len(t.scores)) for one in detectors for name, t in one.thresholds.items()}
    assert promises == {("fabric", 0.2, 4), ("metal", 0.2, 4)}
    held_out = [row.sha256 for row in place.manifest.held_out]
    learnt = [one for one in detectors if one.method.name == "inp_former"]
    assert len({one.thresholds["metal"].threshold for one in learnt}) == 2  # each seed has scores of its own
    assert all(one.seen is not None and not one.seen.overlap(held_out) for one in detectors)


def test_the_numbers_are_of_all_metrics_lines_and_methods(finished: tuple[Place, dict[Path, float]]) -> None:
    place, _ = finished
    found = numbers_of(place)
    assert found["seeds"] == {"inp_former": 2, "nearest": 2}
    assert [line["name"] for line in found["lines"]] == ["", "fabric", "metal", "bad"]
    for line in found["lines"]:
        of_good_images = set() if line["name"] == "bad" else {"false_alarm_rate"}  # the same for every kind
        assert set(line["metrics"]) == {"miss_rate", "image_auroc", "pixel_ap", "aupro"} | of_good_images
        for own in line["metrics"].values():
            assert sum(one["best"] for one in own.values()) >= 1
            assert all(0 <= one["low"] <= one["value"] <= one["high"] <= 1 for one in own.values())
    whole, fabric, metal, _ = (line["metrics"]["miss_rate"]["nearest"]["value"] for line in found["lines"])
    assert whole == pytest.approx((fabric + metal) / 2)
    judged = [read_judgement(folder) for folder in place.folder.glob("artifacts/compare/judged/*")]
    said = [one for one in judged[0].said if one.category == "metal"]
    missed = sum(one.decision == "PASS" for one in said if one.label) / sum(one.label for one in said)
    assert judged[0].cells["metal", None]["miss_rate"].value == missed
    alarms = sum(one.decision == "FAIL" for one in said if not one.label) / sum(not one.label for one in said)
    assert judged[0].cells["metal", None]["false_alarm_rate"].value == alarms
    for cost in found["costs"].values():
        assert 0 < cost["milliseconds"] < 60_000
        assert 100 < cost["memory_mb"] < 10_000
    with (place.folder / "reports/compare/comparison.csv").open() as file:
        assert len(list(csv.DictReader(file))) == (3 * 5 + 4) * 2


def test_mlflow_has_a_run_for_all_and_one_for_each_training(finished: tuple[Place, dict[Path, float]]) -> None:
    place, _ = finished
    client = MlflowClient(f"sqlite:///{place.folder}/mlflow.db")
    runs = list(client.search_runs([client.get_experiment_by_name("inpformer").experiment_id]))
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert {run.info.run_name for run in children} == {f"{m}, seed {s}" for m in METHODS for s in (1, 2)}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {file.path for file in client.list_artifacts(parent.info.run_id, "compare")} == {
        f"compare/{name}" for name in ("index.html", "comparison.json", "comparison.csv")
    }
    values = flat(
        {"miss_rate": {m: numbers_of(place)["lines"][0]["metrics"]["miss_rate"][m]["value"] for m in METHODS}}
    )
    assert {name: parent.data.metrics[name] for name in values} == pytest.approx(values)
    one = next(run for run in children if run.info.run_name == "inp_former, seed 2")
    assert one.data.params["train.seed"] == "2"
    assert len(client.get_metric_history(one.info.run_id, "loss")) == EPOCHS


def test_the_page_names_methods_categories_and_the_command_s_own_words(
    finished: tuple[Place, dict[Path, float]],
) -> None:
    place, _ = finished
    text = (place.folder / "reports/compare/index.html").read_text()
    found = numbers_of(place)
    assert all(sentence in text for sentence in found["said"])
    assert text.count('class="finding ') == len(found["disagreements"])
    assert "calibrate.folds is left out" in text
    assert "<script" not in text


def test_a_method_that_does_not_suit_the_encoder_is_refused_by_name(place: Place) -> None:
    asked = ask(METHODS, 1, place.folder / "artifacts/manifest.parquet")
    odd = replace(asked.methods[0], own=replace(asked.methods[0].own, grid=None))
    with pytest.raises(UserError, match=r"params.yaml: train.inp_former.grid"):
        open_data(place.args, [asked.methods[1], odd])


def test_features_of_other_images_are_refused(place: Place, tmp_path: Path) -> None:
    asked = ask(METHODS, 1, place.folder / "artifacts/manifest.parquet")
    fewer = [row for row in place.manifest.rows if not row.path.endswith("/007.png")]
    write_manifest(replace(place.manifest, rows=fewer), tmp_path / "manifest.parquet")
    args = Namespace(**{**vars(place.args), "manifest": tmp_path / "manifest.parquet"})
    with pytest.raises(StaleFeaturesError, match="other images"):
        open_data(args, asked.methods)
