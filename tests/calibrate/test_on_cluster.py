"""Images judged on a real Ray cluster: as one process judges them, also after a worker dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.exceptions import RayActorError

from inpformer.backends.names import TORCH
from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from inpformer.judging.detector import Detector, Prediction
from inpformer.judging.learnt import ALL
from pipelines.calibrate import on_cluster
from pipelines.calibrate.judge import Batch, InProcess, judging
from pipelines.calibrate.on_cluster import OnCluster
from pipelines.gate.linked import Linked, write_linked
from pipelines.manifest.table import Manifest, write_manifest
from tests.conftest import INP_FORMER, MULTI, OWN, noise_parts, untrained
from tests.promote.products import guessing, products

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = {
    "calibrate": {"out": "detector", "scores": "held_out.csv", "outliers": "thresholds.png"},
    "evaluate": {
        "evaluation": "evaluation.json",
        "metrics": "metrics.json",
        "table": "metrics.md",
        "scores": "scores.csv",
        "plots": "plots",
    },
}


def run(stage: str, **files: Path) -> None:
    """A stage's command in the working directory."""
    arguments = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [stage, *arguments])
        import_module(f"pipelines.{stage}.__main__").main()


def test_the_stages_leave_the_same_files_as_in_one_process(
    encoder: Encoder, tmp_path: Path, ray_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = products(tmp_path / "data")
    guessing(encoder, manifest, 0).save(tmp_path / "model")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["evaluate"] |= {"gallery": 2, "bootstrap": {"replicates": 100}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    write_manifest(manifest, tmp_path / "manifest.parquet")
    write_linked(Linked(True), tmp_path / "linked.json")
    monkeypatch.chdir(tmp_path)
    known = {name: tmp_path / file for name, file in (("manifest", "manifest.parquet"), ("linked", "linked.json"))}
    made = {}
    for place, address in (("here", ""), ("there", ray_cluster)):
        monkeypatch.setenv("RAY_ADDRESS", address)
        folder = tmp_path / place
        for stage, given in (
            ("calibrate", {"model": tmp_path / "model"}),
            ("evaluate", {"detector": folder / "detector"}),
        ):
            run(stage, **known, **given, **{name: folder / file for name, file in OUTPUTS[stage].items()})
        made[place] = {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert [name for name, content in made["here"].items() if made["there"].get(name) != content] == []
    assert made["here"].keys() == made["there"].keys()
    assert len(made["here"]) > 12


def test_ctrl_c_leaves_nothing_here_and_nobody_there(encoder: Encoder, tmp_path: Path, ray_cluster: str) -> None:
    manifest = products(tmp_path / "data")
    guessing(encoder, manifest, 0).save(tmp_path / "model")
    write_manifest(manifest, tmp_path / "manifest.parquet")
    write_linked(Linked(True), tmp_path / "linked.json")
    (tmp_path / "params.yaml").write_text("{}")
    # The last test image is a pipe, which is opened for reading in the middle of the work, and then waited for.
    last = manifest.root / sorted(manifest.split("test"), key=lambda row: row.category)[-1].path
    last.unlink()
    os.mkfifo(last)
    outputs = [word for name, file in OUTPUTS["evaluate"].items() for word in (f"--{name}", f"out/{file}")]
    command = [sys.executable, "-m", "pipelines.evaluate", "--manifest", "manifest.parquet", "--linked", "linked.json"]
    environment = {**os.environ, "RAY_ADDRESS": ray_cluster, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, "--detector", "model", *outputs], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    pipe = eventually(lambda: _opened(last), process)
    process.send_signal(signal.SIGINT)
    os.close(pipe)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1].startswith("interrupted: ")
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    assert eventually(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])


def _opened(pipe: Path) -> int | None:
    """For writing, once somebody reads it."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def eventually(check: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> Any:
    """The first true value of `check`, while the process runs."""
    end = time.monotonic() + 300
    while time.monotonic() < end and (process is None or process.poll() is None):
        if value := check():
            return value
        time.sleep(0.1)
    raise AssertionError("it did not come to that" if process is None else process.communicate())


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """90 good images: six batches."""
    return noise_parts(tmp_path_factory.mktemp("parts"), 90)


@pytest.fixture(scope="module")
def judge(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory, ray_cluster: str) -> Iterator[OnCluster]:
    """A detector of two folds with copies on the cluster."""
    folder = tmp_path_factory.mktemp("folds") / "detector"
    folds = {ALL: [untrained(encoder, seed) for seed in range(2)]}
    Detector(encoder, INP_FORMER, OWN, {}, MULTI, {}, folds=folds).save(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", ray_cluster)
        with judging(folder) as found:
            assert isinstance(found, OnCluster)
            yield found
            copies = found._copies
    for copy in copies:
        with pytest.raises(RayActorError):
            ray.get(copy.load.remote({}, TORCH))


def batches(manifest: Manifest, folds: bool) -> list[Batch]:
    """Its good training images, in full batches."""
    paths = [manifest.root / row.path for row in manifest.rows if row.split != "test"][:80]
    parts = [paths[start : start + 16] for start in range(0, len(paths), 16)]
    return [Batch(part, ["nut"] * 16, [n % 2 for n in range(16)] if folds else None) for part in parts]


def equal(one: Prediction, other: Prediction) -> bool:
    same = (a.tobytes() == b.tobytes() for a, b in zip(one.maps, other.maps, strict=True))
    return one.scores.tolist() == other.scores.tolist() and all(same)


@pytest.mark.parametrize("folds", [False, True])
def test_a_worker_that_dies_costs_nothing_but_time(judge: OnCluster, parts: Manifest, folds: bool) -> None:
    wanted = InProcess(judge.detector).predictions(batches(parts, folds))
    found = judge.predictions(batches(parts, folds))
    assert equal(next(wanted), next(found))
    if folds:
        pid = ray.get(judge._copies[0].__ray_call__.remote(lambda _: os.getpid()))
        os.kill(pid, signal.SIGKILL)
    assert [equal(one, other) for one, other in zip(wanted, found, strict=True)] == [True] * 4
    assert judge.device == "CPU"


def test_an_image_that_cannot_be_read_is_named(judge: OnCluster, parts: Manifest, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes((parts.root / parts.rows[0].path).read_bytes()[:600])
    for file, why in (("cut.png", "is a damaged or truncated image"), ("gone.png", "is missing: put it back")):
        found = judge.predictions([Batch([tmp_path / file], ["nut"], None)])
        with pytest.raises(UserError, match=f"{tmp_path / file} {why}"):
            list(found)


def test_few_batches_are_read_before_their_turn(
    judge: OnCluster, parts: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, stored = [], on_cluster._stored
    monkeypatch.setattr(on_cluster, "_stored", lambda batch: (read.append(batch), stored(batch))[1])
    for taken, _ in enumerate(judge.predictions(batches(parts, False) * 3)):
        # That which was taken, those of two copies under way and waiting, and those read ahead.
        assert len(read) <= taken + 1 + 2 * 4 + 2
    assert len(read) == 15
