"""Weights that params.yaml names by path: other content there is another record, and costs nothing while it stays."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipelines.weights.digest import KNOWN, digest_of
from pipelines.weights.record import DETECTOR_KEY, ENCODER_KEY

ROOT = Path(__file__).resolve().parents[2]
LONG_AGO = time.time() - 3600


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, a repository of DVC, with an encoder's file and a detector's folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "borrowed").mkdir()
    for name in ("vit.safetensors", "borrowed/detector.json", "borrowed/model.safetensors"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (LONG_AGO, LONG_AGO))
    return tmp_path


def stage(workplace: Path, encoder: object, detector: object) -> subprocess.CompletedProcess[str]:
    params = {"features": {"encoder": {"weights": encoder}}, "train": {"weights": detector}}
    (workplace / "params.yaml").write_text(yaml.safe_dump(params))
    command = [
        sys.executable,
        "-m",
        "pipelines.weights",
        "--encoder",
        "out/encoder.json",
        "--detector",
        "out/detector.json",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True, check=False)


def records(workplace: Path) -> tuple[str, str]:
    return (workplace / "out/encoder.json").read_text(), (workplace / "out/detector.json").read_text()


def test_each_record_follows_the_content_at_its_own_path(workplace: Path) -> None:
    assert stage(workplace, "vit.safetensors", "borrowed").returncode == 0
    first = records(workplace)
    assert stage(workplace, "vit.safetensors", "borrowed").returncode == 0
    assert records(workplace) == first
    (workplace / "vit.safetensors").write_text("VIT.SAFETENSORS")
    assert stage(workplace, "vit.safetensors", "borrowed").returncode == 0
    second = records(workplace)
    assert (second[0] != first[0], second[1] != first[1]) == (True, False)
    (workplace / "borrowed/model.safetensors").write_text("other")
    assert stage(workplace, "vit.safetensors", "borrowed").returncode == 0
    third = records(workplace)
    assert (third[0] != second[0], third[1] != second[1]) == (False, True)
    (workplace / "borrowed/seen.safetensors").write_text("a file more")
    assert stage(workplace, "vit.safetensors", "borrowed").returncode == 0
    assert records(workplace)[1] != third[1]


@pytest.mark.parametrize("encoder", ["bundled", "hub"])
def test_what_is_no_path_has_no_digest(workplace: Path, encoder: object) -> None:
    assert stage(workplace, encoder, None).returncode == 0
    assert [json.loads(text)["sha256"] for text in records(workplace)] == [None, None]


@pytest.mark.parametrize(
    ("encoder", "detector", "key"),
    [
        ("gone.safetensors", None, ENCODER_KEY),
        ("borrowed", None, ENCODER_KEY),
        ("hub", "gone", DETECTOR_KEY),
        ("hub", "out", DETECTOR_KEY),  # a folder, but no detector's
        ("hub", "vit.safetensors", DETECTOR_KEY),
    ],
)
def test_what_is_not_there_is_one_sentence(workplace: Path, encoder: str, detector: str | None, key: str) -> None:
    (workplace / "out").mkdir()
    done = stage(workplace, encoder, detector)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: params.yaml: {key} is ")
    assert len(done.stderr.splitlines()) == 1
    assert not (workplace / f"out/{'encoder' if key == ENCODER_KEY else 'detector'}.json").exists()


def test_it_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pipelines.weights import record; print({'torch', 'numpy', 'ray', 'mlflow'} & {*sys.modules})"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


PIPELINE = """
stages:
  weights:
    cmd: python -m pipelines.weights --encoder out/encoder.json --detector out/detector.json
    always_changed: true
    outs: [out/encoder.json, out/detector.json]
  features:
    cmd: echo >> features.txt
    deps: [out/encoder.json]
  train:
    cmd: echo >> train.txt
    deps: [out/detector.json]
"""


def test_dvc_runs_again_what_depends_on_other_content_and_nothing_else(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (workplace / ".dvc").rmdir()
    stage(workplace, "vit.safetensors", "borrowed")
    (workplace / "dvc.yaml").write_text(PIPELINE)
    subprocess.run(["dvc", "init", "--quiet", "--no-scm"], check=True, capture_output=True)

    def times() -> tuple[int, ...]:
        """How often features and train ran, after one more call."""
        done = subprocess.run(["dvc", "repro"], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return tuple(len((workplace / f"{name}.txt").read_text().splitlines()) for name in ("features", "train"))

    assert times() == (1, 1)
    assert times() == (1, 1)
    (workplace / "borrowed/model.safetensors").write_text("other")
    assert times() == (1, 2)
    (workplace / "vit.safetensors").write_text("other")
    assert times() == (2, 2)


def settle(file: Path) -> None:
    """Waits until a file's inode is old enough to be remembered: that time cannot be set."""
    while time.time() - file.stat().st_ctime <= 2.1:
        time.sleep(0.1)


def test_a_known_file_is_not_read_again_and_a_changed_one_is(workplace: Path) -> None:
    file = workplace / "vit.safetensors"
    before = digest_of(file)
    assert not KNOWN.exists()  # written a moment ago
    settle(file)
    assert digest_of(file) == before
    entries = json.loads(KNOWN.read_text())
    assert [entry[-1] for entry in entries.values()] == [before]
    entries[str(file)][-1] = "f" * 64
    KNOWN.write_text(json.dumps(entries))
    assert digest_of(file) == "f" * 64  # it was not read
    size = file.stat().st_size
    file.write_text("x" * size)
    os.utime(file, (LONG_AGO, LONG_AGO))  # of one size and one time with what was known
    assert digest_of(file) not in ("f" * 64, before)
    for damage in ("", "[]", json.dumps({str(file): 3}), json.dumps({str(file): ["x"]})):
        KNOWN.write_text(damage)
        assert len(digest_of(file)) == 64


def test_outside_a_repository_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("a")
    digest_of(tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
