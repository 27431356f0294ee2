"""A search on Ray: it finds the better values, without test images; killed, it goes on; train takes what it found."""

import json
import os
import shutil
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
from mlflow.entities import Run
from ray.tune import ExperimentAnalysis

from inpformer.encoders.encoder import Encoder
from inpformer.judging.detector import Detector
from pipelines.features.index import compute_features, write_index
from pipelines.features.settings import FeatureSettings
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import write_manifest
from pipelines.tune.objective import TIE
from tests.tune.test_tune import plate

ROOT = Path(__file__).resolve().parents[2]
EPOCHS, TRIALS = 6, 4
TRAIN = {
    "batch_size": 8,
    "checkpoint_every": 2,
    "inp_former": {"grid": 4, "channels": 32, "epochs": EPOCHS, "warmup": 5, "final_lr": 0.0},
    "nearest": {"grid": 4, "channels": 32},
    "grnr": {"neighbours": 5},
}
TUNE = {"trials": TRIALS, "concurrency": 1, "grace": 2, "reduction": 4, "images": 8}
# The first learns next to nothing.
SPACE = {
    "inp_former.lr": {"choices": [0.0000001, 0.002]},
    "inp_former.num_prototypes": {"low": 2, "high": 4},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """A folder with manifest and features of 40 good images; the test images are gone since."""
    root = tmp_path_factory.mktemp("search")
    rng = np.random.default_rng(0)
    for name in [*(f"train/good/{n}" for n in range(40)), "test/good/0", "test/dent/0", "ground_truth/dent/0"]:
        file = root / "data/plate" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        plate(rng, "dent" in name).save(file)
    manifest = build_manifest(root / "data", ManifestSettings("unused"))
    write_manifest(manifest, root / "manifest.parquet")
    stored = FeatureSettings(encoder.settings, store=str(root / "store"))
    write_index(compute_features(manifest, encoder, stored), root / "features.json")
    for name in ("test", "ground_truth"):
        shutil.rmtree(root / "data/plate" / name)
    return root


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(project: Path, ray_cluster: str) -> Start:
    """Starts a stage as a user does, on the session's cluster, in a folder of its own with some parameters changed."""

    def begin(name: str, stage: str, outputs: str, **changed: dict[str, object]) -> subprocess.Popen[str]:
        folder = project / name
        folder.mkdir(exist_ok=True)
        params = {
            "manifest": {"data": str(project / "data")},
            "features": {"store": str(project / "store")},
            "train": {**TRAIN, "storage": str(folder / "runs"), **changed.get("train", {})},
            "tune": {**TUNE, "space": SPACE, **changed.get("tune", {})},
        }
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        command = [sys.executable, "-m", f"pipelines.{stage}", "--manifest", "../manifest.parquet"]
        command += ["--features", "../features.json", *outputs.split()]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": ray_cluster}
        environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "TUNE_GLOBAL_CHECKPOINT_S": "0.2"}
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return begin


SEARCH = ("tune", "--out winner.json --report report")


def finish(process: subprocess.Popen[str]) -> str:
    """Waits for a stage that must succeed; returns what it printed."""
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    return out


def nested(folder: Path) -> tuple[Run, list[Run]]:
    """The only run without a parent, and those below it."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = list(client.search_runs([client.get_experiment_by_name("inpformer").experiment_id]))
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    return parent, children


@pytest.fixture
def searched(project: Path, start: Start) -> Path:
    """The folder of a search that nothing disturbed."""
    folder = project / "searched"
    if not (folder / "winner.json").exists():
        (folder / "out.txt").write_text(finish(start("searched", *SEARCH)))
    return folder


def trials_of(folder: Path) -> np.ndarray:
    """The table of a search."""
    file = folder / "report/trials.csv"
    return np.genfromtxt(file, delimiter=",", names=True, dtype=None, encoding="utf-8", deletechars="")


def test_the_search_finds_the_better_of_two_settings(searched: Path) -> None:
    found = json.loads((searched / "winner.json").read_text())
    assert found["train"]["inp_former.lr"] == 0.002
    assert found["train"]["inp_former.num_prototypes"] in (2, 3, 4)
    table = trials_of(searched)
    assert len(table) == TRIALS
    assert set(table["inp_former.lr"]) == {0.0000001, 0.002}
    worse = table[table["inp_former.lr"] < 0.001]["objective"]
    assert found["objective"] == table[table["state"] == "finished"]["objective"].max()
    assert found["objective"] > worse.max() + 0.05
    assert not list((searched / "runs").iterdir())  # a finished search leaves nothing to resume by accident


def test_it_says_a_line_a_trial_and_no_more(searched: Path) -> None:
    lines = (searched / "out.txt").read_text().splitlines()
    assert len(lines) == TRIALS + 2
    assert [line.split(":")[0] for line in lines[1:-1]] == [f"trial {n}/{TRIALS}" for n in range(1, TRIALS + 1)]


def test_every_trial_is_a_finished_run_below_the_search(searched: Path) -> None:
    parent, trials = nested(searched)
    assert (parent.info.status, parent.data.tags["kind"]) == ("FINISHED", "tune")
    assert [run.info.status for run in trials] == ["FINISHED"] * TRIALS
    assert {float(run.data.params["inp_former.lr"]) for run in trials} == {0.0000001, 0.002}
    assert max(run.data.metrics["objective"] for run in trials) >= parent.data.metrics["objective"]
    assert set(trials[0].data.metrics) == {"objective", "miss_rate", "image_ap", "pixel_ap", "val_loss"}
    client = MlflowClient(f"sqlite:///{searched}/mlflow.db")
    logged = {Path(file.path).name for file in client.list_artifacts(parent.info.run_id, "tune/pictures")}
    assert logged == {"best.png", "parallel.png", "importance.png"}


def test_a_method_without_epochs_is_searched_in_its_own_space(project: Path, start: Start) -> None:
    folder = project / "memory"
    changed = {"tune": {"space": None, "seeds": 2, "objective": "miss_rate"}, "train": {"method": "nearest"}}
    out = finish(start("memory", *SEARCH, **changed))
    found, table = json.loads((folder / "winner.json").read_text()), trials_of(folder)
    assert set(found["train"]) == {"nearest.neighbours", "nearest.coreset_share"}
    assert isinstance(found["train"]["nearest.neighbours"], int)
    assert (len(table), set(table["state"]), set(table["epochs"])) == (TRIALS, {"finished"}, {1})
    assert found["objective"] == table["objective"].max()
    precision = (table["image_ap"] + table["pixel_ap"]) / 2
    np.testing.assert_allclose(table["objective"], (1 - table["miss_rate"] + TIE * precision) / (1 + TIE))
    assert len([line for line in out.splitlines() if line.startswith("trial ")]) == TRIALS
    _, trials = nested(folder)
    assert [run.info.status for run in trials] == ["FINISHED"] * TRIALS
    assert set(trials[0].data.metrics) == {"objective", "miss_rate", "image_ap", "pixel_ap"}
    assert not list((folder / "runs").iterdir())


def test_a_method_that_learns_nothing_is_searched(project: Path, start: Start) -> None:
    space = {"grnr.neighbours": {"low": 2, "high": 16}, "grnr.weight": {"low": 0.01, "high": 10, "log": True}}
    finish(start("texture", *SEARCH, tune={"space": space, "trials": 2}, train={"method": "grnr"}))
    found, table = json.loads((project / "texture/winner.json").read_text()), trials_of(project / "texture")
    assert set(found["train"]) == set(space)
    assert (len(table), set(table["state"]), set(table["epochs"])) == (2, {"finished"}, {1})
    assert found["objective"] == table["objective"].max()


def states(folder: Path) -> dict[str, tuple[str, int]]:
    """What Ray wrote down of a search under way: state and last saved epoch of each trial."""
    found = list(folder.glob("runs/tune-*/experiment_state-*.json"))
    if not found:
        return {}
    try:
        trials = ExperimentAnalysis(str(found[0].parent)).trials
    except ValueError:  # it is being written
        return {}
    saved = [trial.latest_checkpoint_result for trial in trials]
    epochs = [result.metrics["epoch"] if result else 0 for result in saved]
    return {str(trial): (trial.status, epoch) for trial, epoch in zip(trials, epochs, strict=True)}


def test_a_killed_search_goes_on_and_repeats_no_finished_trial(project: Path, start: Start) -> None:
    # Enough epochs, and no trial stopped early, that the third is under way when its driver is killed.
    changed = {"tune": {"grace": 40, "epochs": 40, "trials": 3}, "train": {"checkpoint_every": 4}}
    folder = project / "killed"
    process = start("killed", *SEARCH, **changed)
    deadline = time.monotonic() + 300
    known: dict[str, tuple[str, int]] = {}
    while not (len(known) >= 2 and 0 < list(known.values())[-1][1] < 30):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
        known = states(folder)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    parent, before = nested(folder)
    ended = {run.info.run_id: run.info.end_time for run in before if known[run.info.run_name][0] == "TERMINATED"}
    assert len(ended) >= 1
    out = finish(start("killed", *SEARCH, **changed))
    assert f"trial 1/{3}" not in out
    again, after = nested(folder)
    assert again.info.run_id == parent.info.run_id
    assert [run.info.status for run in (again, *after)] == ["FINISHED"] * 4
    assert {run.info.run_id: run.info.end_time for run in after if run.info.run_id in ended} == ended
    for run in after:
        epochs = [metric.step for metric in client.get_metric_history(run.info.run_id, "objective")]
        assert sorted(set(epochs)) == list(range(4, 41, 4))
        held = known.get(run.info.run_name, ("", 0))[1]
        assert len([epoch for epoch in epochs if epoch <= held]) == held // 4  # what was saved is not done again


def test_train_takes_what_was_found(project: Path, start: Start) -> None:
    folder = project / "trained"
    folder.mkdir()
    values = {"inp_former.num_prototypes": 3, "inp_former.losses.mining_power": 1.5, "inp_former.epochs": 1}
    (folder / "winner.json").write_text(json.dumps({"objective": 0.5, "train": values}))
    outputs = "--winner winner.json --model model --run run.json --loss loss.csv"
    out = finish(start("trained", "train", outputs, train={"setting": "single-class"}))
    told = "found by the search: inp_former.num_prototypes 3, inp_former.losses.mining_power 1.5, inp_former.epochs 1\n"
    assert out.startswith(told)
    detector = Detector.load(folder / "model")
    assert detector.models["plate"].network.prototype_token.shape[-2] == 3
    assert (detector.settings.num_prototypes, detector.settings.losses.mining_power) == (3, 1.5)
    (run,) = MlflowClient(f"sqlite:///{folder}/mlflow.db").search_runs(["1"])
    names = ("num_prototypes", "losses.mining_power", "epochs")
    assert [run.data.params[f"train.inp_former.{name}"] for name in names] == ["3", "1.5", "1"]
