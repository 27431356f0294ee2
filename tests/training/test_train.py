"""Training on Ray: the same losses on one worker and on two, and after an interruption as without one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from PIL import Image

from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.training.settings import TrainSettings
from pipelines.features.anomalies import anomaly_plan
from pipelines.features.encoder_check import check_encoder
from pipelines.features.index import compute_features, read_index, write_index
from pipelines.features.settings import AnomalySettings, FeatureSettings
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import read_manifest, write_manifest
from pipelines.training.checkpoints import open_checkpoints
from pipelines.training.features import training_features
from pipelines.training.job import Job

EPOCHS = 6


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """A folder with manifest, features and params.yaml for 40 images of noise over a gradient."""
    root = tmp_path_factory.mktemp("train")
    rng = np.random.default_rng(0)
    gradient = np.linspace(0, 160, 64, dtype=np.float32)[None, :, None]
    for name in [*(f"train/good/{n}" for n in range(40)), "test/good/0", "test/chip/0", "ground_truth/chip/0"]:
        file = root / "data/nut" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((gradient + rng.uniform(0, 95, (64, 64, 3))).astype(np.uint8)).save(file)
    manifest = build_manifest(root / "data", ManifestSettings("unused"))
    # The same images as two categories, for the settings that tell categories apart.
    halves = [replace(row, category="bolt" if n % 2 else "nut") for n, row in enumerate(manifest.rows)]
    strange = [replace(row, category="gear") for row in manifest.rows]
    store = str(root / "store")
    for name, digest, rows in (("nuts", "", manifest.rows), ("two", "f" * 64, halves), ("strange", "e" * 64, strange)):
        one = replace(manifest, digest=digest or manifest.digest, rows=rows)
        write_manifest(one, root / f"{name}.parquet")
        stored = FeatureSettings(encoder.settings, store=store, anomalies=AnomalySettings(variants=1))
        index = compute_features(one, encoder, stored, None, anomaly_plan(one, stored, False))
        write_index(index, root / f"{name}.json")
    params = {
        "manifest": {"data": str(root / "data")},
        "features": {"store": store},
        "train": {
            "batch_size": 8,
            "checkpoint_every": 1,
            "inp_former": {"grid": 4, "channels": 32, "epochs": EPOCHS, "warmup": 5},
            "inp_former_pp": {"grid": 4, "channels": 32, "epochs": 2, "warmup": 5, "head": {"channels": [8, 4]}},
            "nearest": {"grid": 4, "channels": 32, "coreset_share": 0.25},
            "grnr": {},
        },
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "drawn/pictures").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "drawn/pictures/0.png")
    return root


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(project: Path, ray_cluster: str) -> Start:
    """Starts the stage as a user does, on the session's cluster, with some parameters of `train` changed, or (`own`) of
    the method's there.
    """

    def begin(
        name: str, mlflow_uri: str = "", data: str = "nuts", own: dict[str, object] | None = None, **changed: int | str
    ) -> subprocess.Popen[str]:
        folder = project / name
        folder.mkdir(exist_ok=True)
        params = yaml.safe_load((project / "params.yaml").read_text())
        params["train"] |= {"storage": str(folder / "runs"), **changed}
        params["train"][changed.get("method", "inp_former")] |= own or {}
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        command = [sys.executable, "-m", "pipelines.train", "--manifest", f"../{data}.parquet"]
        command += ["--features", f"../{data}.json", "--model", "model", "--run", "run.json", "--loss", "loss.csv"]
        command += ["--anomalies", "../drawn"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "RAY_ADDRESS": ray_cluster}
        environment["MLFLOW_TRACKING_URI"] = mlflow_uri or f"sqlite:///{folder}/mlflow.db"
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return begin


def finish(process: subprocess.Popen[str]) -> str:
    """Waits for a stage that must succeed; returns what it printed."""
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    return out + err


def losses(folder: Path) -> np.ndarray:
    """Epoch by epoch: loss, soft mining, coherence, validation."""
    return np.genfromtxt(folder / "loss.csv", delimiter=",", skip_header=1)[:, 1:5]


@pytest.fixture
def undisturbed(project: Path, start: Start) -> Path:
    """The folder of a run on one worker that nothing disturbs."""
    folder = project / "undisturbed"
    if not (folder / "loss.csv").exists():
        finish(start("undisturbed"))
    return folder


def test_training_learns_and_leaves_a_detector(undisturbed: Path) -> None:
    history = losses(undisturbed)
    assert history.shape == (EPOCHS, 4)
    assert history[-1, 0] < 0.8 * history[0, 0]
    detector = Detector.load(undisturbed / "model")
    assert (detector.method.name, detector.settings.channels, detector.settings.warmup) == ("inp_former", 32, 5)
    assert detector.models[ALL].network.prototype_token.shape[-1] == 32
    assert (detector.learnt_from.setting, detector.learnt_from.categories) == ("multi-class", ("nut",))
    rows = read_manifest(undisturbed.parent / "nuts.parquet").rows
    assert detector.seen is not None
    known = detector.seen.overlap([row.sha256 for row in rows])
    assert known == [n for n, row in enumerate(rows) if row.split == "train"]
    assert not list((undisturbed / "runs").iterdir())  # a finished run leaves nothing to resume by accident


def test_two_workers_give_the_losses_of_one(undisturbed: Path, project: Path, start: Start) -> None:
    finish(start("two", num_workers=2))
    np.testing.assert_allclose(losses(project / "two"), losses(undisturbed), rtol=2e-4)


def test_a_memory_of_normal_tokens_is_a_training_without_epochs(project: Path, start: Start) -> None:
    out = finish(start("memory", method="nearest"))
    assert "nearest, multi-class, MLflow run" in out
    assert "phase 2 of 2 done" in out
    assert "warning" not in out
    detector = Detector.load(project / "memory/model")
    assert detector.method.name == "nearest"
    assert detector.models[ALL].memory.shape == (0.25 * 32 * 16, 32)
    assert detector.models[ALL].memory.unique(dim=0).shape == (0.25 * 32 * 16, 32)
    assert (project / "memory/loss.csv").read_text().splitlines() == ["epoch,loss,val_loss"]
    assert (project / "memory/loss.png").stat().st_size > 1000
    assert not list((project / "memory/runs").iterdir())
    (run,) = MlflowClient(f"sqlite:///{project}/memory/mlflow.db").search_runs(["1"])
    assert (run.info.status, run.data.metrics) == ("FINISHED", {})
    assert (run.data.tags["method"], run.data.params["train.nearest.coreset_share"]) == ("nearest", "0.25")
    # It has no zero-shot, whatever train.method says.
    other = {"setting": "zero-shot", "weights": str(project / "memory/model"), "data": "strange"}
    _, err = start("borrowed", **other).communicate(timeout=120)
    assert "is of nearest, which has no zero-shot: take one of inp_former" in err


@pytest.mark.parametrize("setting", ["multi-class", "single-class"])
def test_a_method_that_learns_nothing_needs_no_cluster_and_has_seen_no_image(
    setting: str, project: Path, start: Start
) -> None:
    own: dict[str, object] = {"neighbours": 7}
    out = finish(start(f"texture-{setting}", method="grnr", setting=setting, own=own, data="two"))
    assert f"grnr, {setting}, MLflow run" in out
    assert "phase" not in out
    detector = Detector.load(project / f"texture-{setting}/model")
    assert (detector.method.name, detector.settings.neighbours) == ("grnr", 7)
    assert set(detector.models) == ({ALL} if setting == "multi-class" else {"bolt", "nut"})
    assert detector.seen is not None
    assert len(detector.seen) == 0
    assert (project / f"texture-{setting}/loss.csv").read_text().splitlines() == ["epoch,loss,val_loss"]


def test_the_extension_trains_network_and_head_together(project: Path, start: Start) -> None:
    out = finish(start("plus", method="inp_former_pp"))
    assert "inp_former_pp, multi-class, MLflow run" in out
    header, first, last = (project / "plus/loss.csv").read_text().splitlines()
    assert header.split(",")[:6] == ["epoch", "loss", "soft_mining", "coherence", "dice", "val_loss"]
    assert float(last.split(",")[1]) < float(first.split(",")[1])
    detector = Detector.load(project / "plus/model")
    assert detector.models[ALL].head.up1.weight.shape == (32, 8, 4, 4)
    assert float(detector.models[ALL].unit) != 1


def test_a_head_is_put_on_a_trained_inp_former(undisturbed: Path, project: Path, start: Start) -> None:
    head = {"training": "alone", "channels": [8, 4], "epochs": 3}
    options = {"method": "inp_former_pp", "own": {"head": head, "num_prototypes": 3}}  # which the model decides
    weights = str(undisturbed / "model")
    finish(start("headed", weights=weights, **options))
    before, after = (Detector.load(folder / "model") for folder in (undisturbed, project / "headed"))
    assert (after.method.name, after.learnt_from.setting) == ("inp_former_pp", "multi-class")
    kept = after.models[ALL].tensors()
    assert all(torch.equal(kept[name], tensor) for name, tensor in before.models[ALL].tensors().items())
    assert (project / "headed/loss.csv").read_text().splitlines()[0].split(",")[:4] == [
        "epoch",
        "loss",
        "dice",
        "val_loss",
    ]
    # Its thresholds must not come from what either of the two has seen.
    assert before.seen is not None
    assert after.seen is not None
    assert set(before.seen.starts.tolist()) <= set(after.seen.starts.tolist())
    # Each category's own: a network of all categories is none of them.
    for name, changed, words in (
        (
            "apart-headed",
            {"setting": "single-class", "data": "two", "batch_size": 4},
            "is multi-class, this training single-class",
        ),
        ("strange-headed", {"data": "strange"}, "has not learnt gear"),
        (
            "twice-headed",
            {"weights": str(project / "headed/model")},
            "is of inp_former_pp: inp_former_pp builds on one of",
        ),
    ):
        _, err = start(name, **{"weights": weights, **options, **changed}).communicate(timeout=120)
        assert words in err
    _, err = start("nothing-headed", **options).communicate(timeout=120)
    assert "train.weights is None" in err


def test_an_interrupted_run_goes_on_in_its_own_mlflow_run(undisturbed: Path, project: Path, start: Start) -> None:
    name = "stopped"
    process = start(name)
    deadline = time.monotonic() + 300
    while not list((project / name).glob("runs/*/checkpoint_*/progress.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command again to go on" in err
    assert not (project / name / "model").exists()
    finish(start(name))
    np.testing.assert_allclose(losses(project / name), losses(undisturbed), rtol=1e-5)
    client = MlflowClient(f"sqlite:///{project / name}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("inpformer").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"]
    steps = [metric.step for metric in client.get_metric_history(runs[0].info.run_id, "loss")]
    assert steps == list(range(1, EPOCHS + 1))


def test_single_class_trains_a_model_a_category_and_repeats_none(project: Path, start: Start) -> None:
    settings = {"setting": "single-class", "batch_size": 4, "own": {"epochs": 2}, "data": "two"}
    process = start("apart", **settings)
    deadline = time.monotonic() + 300
    while not (first := list((project / "apart").glob("runs/*/*/finished/progress.json"))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    kept = first[0].stat().st_mtime_ns if first[0].exists() else None
    if process.returncode:  # else it was finished before the signal came
        assert process.returncode == 130
        again = start("apart", **settings)
        out = finish(again)
        if kept is not None:  # else the signal came while all that was finished was being removed
            key = open_checkpoints("unused", "key")
            places = {key.within(name).key.rpartition("/")[2]: name for name in ("bolt", "nut")}
            assert f"{places[first[0].parents[1].name]}: epoch" not in out
    detector = Detector.load(project / "apart" / "model")
    assert set(detector.models) == {"bolt", "nut"}
    assert detector.learnt_from.setting == "single-class"
    bolt, nut = (detector.models[name].network.prototype_token.detach() for name in ("bolt", "nut"))
    assert float((bolt - nut).abs().max()) > 1e-4
    client = MlflowClient(f"sqlite:///{project}/apart/mlflow.db")
    run_id = json.loads((project / "apart/run.json").read_text())["run_id"]
    assert [m.step for m in client.get_metric_history(run_id, "bolt.loss")] == [1, 2]
    assert losses(project / "apart").shape == (2, 4)


def test_zero_shot_takes_the_weights_of_other_data(undisturbed: Path, project: Path, start: Start) -> None:
    finish(start("zero", setting="zero-shot", weights=str(undisturbed / "model"), data="strange"))
    detector, other = (Detector.load(folder / "model") for folder in (project / "zero", undisturbed))
    assert (detector.learnt_from.setting, detector.learnt_from.categories) == ("zero-shot", ("nut",))
    assert (project / "zero/loss.csv").read_text().splitlines()[1:] == []
    assert detector.seen is not None
    assert other.seen is not None
    np.testing.assert_array_equal(detector.seen.starts, other.seen.starts)
    assert torch.equal(detector.models[ALL].network.prototype_token, other.models[ALL].network.prototype_token)
    _, err = start("same", setting="zero-shot", weights=str(undisturbed / "model")).communicate(timeout=120)
    assert "was trained on nut: judging it is no zero-shot" in err


def test_weights_may_be_taken_as_they_are(undisturbed: Path, project: Path, start: Start) -> None:
    # The detector's method counts, not the one that would have been trained.
    out = finish(start("taken", weights=str(undisturbed / "model"), method="nearest"))
    assert out.startswith("inp_former, multi-class, MLflow run")
    (run,) = MlflowClient(f"sqlite:///{project}/taken/mlflow.db").search_runs(["1"])
    assert run.data.tags["method"] == "inp_former"
    files = [(folder / "model/model.safetensors").read_bytes() for folder in (project / "taken", undisturbed)]
    assert files[0] == files[1]


def test_changed_encoder_weights_are_noticed(project: Path, encoder: Encoder) -> None:
    index = read_index(project / "nuts.json")
    check_encoder(encoder, index)
    with pytest.raises(UserError, match="the weights of tf_efficientnet_lite0 in bundled changed since the features"):
        check_encoder(encoder, replace(index, encoder_key="0" * 64))


def test_few_shot_trains_on_22_forms_of_each_image(project: Path, encoder: Encoder) -> None:
    manifest = read_manifest(project / "nuts.parquet")
    few = replace(manifest, shots=3, rows=[*manifest.split("train")[:3], *manifest.split("val")])
    stored = FeatureSettings(encoder.settings, store=str(project / "store"))
    index = compute_features(few, encoder, stored)
    settings = TrainSettings(batch_size=16, own=InpFormerSettings(grid=4, channels=32))
    loop = Job(few, index, encoder, settings, training_features(stored, index), None, None).loop()  # type: ignore[arg-type]
    views = loop.features.open()
    assert (views.count("train"), views.count("val")) == (66, 8)


def test_a_record_of_the_run_is_left(undisturbed: Path) -> None:
    run_id = json.loads((undisturbed / "run.json").read_text())["run_id"]
    run = MlflowClient(f"sqlite:///{undisturbed}/mlflow.db").get_run(run_id)
    assert run.data.params["train.inp_former.channels"] == "32"
    assert (run.data.tags["method"], run.data.tags["setting"]) == ("inp_former", "multi-class")
    assert len(run.data.tags["data.digest"]) == 64
    assert run.data.tags["git.dirty"] == "unknown"  # the folder is no repository


def test_an_unreachable_mlflow_is_one_sentence(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    process = start("unreachable", mlflow_uri="http://user:secret@127.0.0.1:9")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: MLflow at http://127.0.0.1:9 did not do its part" in err
    assert "Traceback" not in err
    assert "secret" not in out + err


def test_too_large_a_batch_is_one_sentence(start: Start) -> None:
    process = start("large", batch_size=64)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "train.batch_size is 64: there are only 32 training images" in err
    assert "Traceback" not in err
