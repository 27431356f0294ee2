"""Training on Ray: the same losses on one worker and on two, and after an interruption as without one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from inpformer.detector import Detector
from inpformer.encoder import Encoder
from inpformer.errors import UserError
from pipelines.features import FeatureSettings, compute_features, write_index
from pipelines.manifest import ManifestSettings, build_manifest, write_manifest
from pipelines.train import model_shape
from pipelines.train_worker import TrainSettings

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
    write_manifest(manifest, root / "manifest.parquet")
    store = str(root / "store")
    write_index(compute_features(manifest, encoder, FeatureSettings(encoder.settings, store)), root / "features.json")
    params = {
        "manifest": {"data": str(root / "data")},
        "features": {"store": store},
        "train": {"channels": 32, "epochs": EPOCHS, "batch_size": 8, "warmup": 5, "checkpoint_every": 1},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(project: Path, ray_cluster: str) -> Start:
    """Starts the stage as a user does, on the session's cluster, with some parameters of `train` changed."""

    def begin(name: str, mlflow_uri: str = "", **changed: int) -> subprocess.Popen[str]:
        folder = project / name
        folder.mkdir(exist_ok=True)
        params = yaml.safe_load((project / "params.yaml").read_text())
        params["train"] |= {"storage": str(folder / "runs"), **changed}
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        command = [sys.executable, "-m", "pipelines.train", "--manifest", "../manifest.parquet", "--features"]
        command += ["../features.json", "--model", "model", "--run", "run.json", "--loss", "loss.csv"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "RAY_ADDRESS": ray_cluster}
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
    assert Detector.load(undisturbed / "model").model.shape.channels == 32
    assert not list((undisturbed / "runs").iterdir())  # a finished run leaves nothing to resume by accident


def test_two_workers_give_the_losses_of_one(undisturbed: Path, project: Path, start: Start) -> None:
    finish(start("two", num_workers=2))
    np.testing.assert_allclose(losses(project / "two"), losses(undisturbed), rtol=2e-4)


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


def test_a_record_of_the_run_is_left(undisturbed: Path) -> None:
    run_id = json.loads((undisturbed / "run.json").read_text())["run_id"]
    run = MlflowClient(f"sqlite:///{undisturbed}/mlflow.db").get_run(run_id)
    assert run.data.params["train.channels"] == "32"
    assert len(run.data.tags["data.digest"]) == 64
    assert run.data.tags["git.dirty"] in ("true", "false")


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


@pytest.mark.parametrize("channels", [None, 4096])
def test_channels_must_suit_the_encoder(encoder: Encoder, channels: int | None) -> None:
    with pytest.raises(UserError, match="needs a projection to at most 496 channels"):
        model_shape(encoder, TrainSettings(channels=channels))
