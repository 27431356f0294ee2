"""What a version's evidence must say to be made again, where its images come from, and how equal two detectors are.

That a version is made again, byte for byte, tests/test_pipeline.py holds.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL
from inpformer.judging.plausibility import Plausibility
from inpformer.methods import METHODS
from pipelines.platform.registry import Evidence, register
from pipelines.platform.runs import Run
from pipelines.reproduce.again import verdict
from pipelines.reproduce.compare import difference
from pipelines.reproduce.origin import Origin, read_origin
from pipelines.reproduce.worktree import fetch_data, run, worktree
from tests.conftest import MULTI, limits
from tests.platform.test_registry import NAME
from tests.platform.test_registry import registry as registry

COMMIT = "c" * 40


def made_of(**changed: Any) -> dict[str, Any]:
    params = {"manifest": {"data": "data/own"}}
    values = {"git.commit": COMMIT, "git.uncommitted": [], "params": params, "data": {"digest": "d1"}}
    return values | changed


@pytest.fixture
def version(registry: MlflowClient, detector: Detector, tmp_path: Path) -> Callable[..., str]:
    """Registers a version with such evidence; returns its number."""
    detector.save(tmp_path / "detector")

    def make(provenance: dict[str, Any] | None, lock: str | None = None) -> str:
        folder = tmp_path / "evidence"
        folder.mkdir()
        (folder / "metrics.md").write_text("")
        if provenance is not None:
            (folder / "provenance.json").write_text(json.dumps(provenance))
        if lock is not None:
            (folder / "dvc.lock").write_text(lock)
        return register(Run.open("key", "a run", {}, {}), tmp_path / "detector", NAME, Evidence(folder=folder))

    return make


def test_a_version_says_what_it_was_made_of(version: Callable[..., str], tmp_path: Path) -> None:
    lock = (
        "stages: {manifest: {deps: [{path: x, md5: no}, {path: data/own, md5: a.dir, size: 3, nfiles: 2, hash: md5}]}}"
    )
    number = version(made_of(**{"git.uncommitted": ["params.yaml"]}), lock)
    origin = read_origin(NAME, number, tmp_path / "fetched")
    assert (origin.commit, origin.data, origin.digest) == (COMMIT, Path("data/own"), "d1")
    assert origin.known == {"md5": "a.dir", "size": 3, "nfiles": 2, "hash": "md5"}


@pytest.mark.parametrize(
    ("provenance", "why"),
    [
        (None, "provenance.json"),
        (made_of(**{"git.commit": "none"}), "outside a git repository"),
        (made_of(**{"git.commit": "--upload-pack=x"}), "outside a git repository"),
        (made_of(**{"git.uncommitted": ["params.yaml", "inpformer/a.py"]}), r"inpformer/a\.py"),
    ],
)
def test_what_nobody_knows_is_not_made_again(
    version: Callable[..., str], tmp_path: Path, provenance: dict[str, Any] | None, why: str
) -> None:
    number = version(provenance)
    with pytest.raises(UserError, match=why):
        read_origin(NAME, number, tmp_path / "fetched")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose commit has data/own with one image; since then another one came, which is committed too."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "t@example.org")
    (tmp_path / ".gitignore").write_text("/.reproduce/\n")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        run(command, tmp_path, quiet=True)
    for number in (1, 2):
        (tmp_path / "data/own").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"data/own/{number}.png").write_text(f"image {number}")
        for command in (["dvc", "add", "-q", "data/own"], ["git", "add", "-A"], ["git", "commit", "-qm", f"{number}"]):
            run(command, tmp_path, quiet=True)
    return tmp_path


def commit(name: str) -> str:
    return subprocess.run(["git", "rev-parse", name], capture_output=True, check=True, text=True).stdout.strip()


def origin_of(name: str, data: Path, known: dict[str, Any]) -> Origin:
    return Origin(commit(name), {"manifest": {"data": str(data), "part": None}}, data, "d1", known, None)


def pointer(name: str) -> dict[str, Any]:
    shown = subprocess.run(["git", "show", f"{name}:data/own.dvc"], capture_output=True, check=True, text=True).stdout
    (found,) = yaml.safe_load(shown)["outs"]
    return {key: found[key] for key in ("md5", "size", "nfiles", "hash")}


@pytest.mark.parametrize("of", ["the commit", "the version"])
def test_images_come_by_their_hash(repository: Path, of: str) -> None:
    """Those of the version where it says which, though its commit points at others."""
    name, known = ("HEAD~1", {}) if of == "the commit" else ("HEAD", pointer("HEAD~1"))
    with worktree("1", origin_of(name, Path("data/own"), known)) as folder:
        fetch_data(folder, origin_of(name, Path("data/own"), known))
        assert [file.name for file in (folder / "data/own").iterdir()] == ["1.png"]
        # What its stages leave must never be taken for this checkout's.
        assert Path(run(["dvc", "cache", "dir"], folder, quiet=True).strip()) == folder / ".dvc/cache"
        assert (folder / "params.yaml").read_text().split() == ["manifest:", "data:", "data/own", "part:", "null"]
    assert not folder.exists()
    assert {file.name for file in (repository / "data/own").iterdir()} == {"1.png", "2.png"}


def test_images_outside_the_repository_are_taken_from_where_they_lie(repository: Path) -> None:
    outside = repository.parent / "elsewhere"
    origin = origin_of("HEAD", Path("../elsewhere"), {"md5": "a" * 32, "size": 1, "nfiles": 1, "hash": "md5"})
    with worktree("1", origin) as folder:
        fetch_data(folder, origin)
        assert str(outside) in (folder / "params.yaml").read_text()
    assert not outside.with_suffix(".dvc").exists()


def test_images_that_nobody_has_are_refused_and_a_failure_is_no_obstacle(repository: Path) -> None:
    lost = origin_of("HEAD", Path("data/own"), {"md5": "ab" * 16 + ".dir", "size": 1, "nfiles": 1, "hash": "md5"})
    with pytest.raises(UserError, match=r"dvc pull data/own\.dvc"), worktree("1", lost) as folder:
        fetch_data(folder, lost)
    assert folder.is_dir()
    found = origin_of("HEAD", Path("data/own"), {})
    with worktree("1", found) as folder:
        fetch_data(folder, found)
    unknown = origin_of("HEAD", Path("data/other"), {})
    with pytest.raises(UserError, match="data/other by a hash"), worktree("1", unknown) as folder:
        fetch_data(folder, unknown)


def test_of_two_at_once_the_second_is_told(repository: Path) -> None:
    origin = origin_of("HEAD", Path("data/own"), {})
    with worktree("1", origin) as folder:
        with pytest.raises(UserError, match="another process makes version 1 again"), worktree("1", origin):
            pass
        assert (folder / "params.yaml").is_file()
        with worktree("2", origin) as other:
            assert other != folder
    with worktree("1", origin):  # it lets go
        pass


def test_a_commit_that_is_not_here_is_named(repository: Path) -> None:
    strange = Origin(COMMIT, {}, Path("data/own"), "d1", {}, None)
    with pytest.raises(UserError, match=COMMIT), worktree("1", strange):
        pass


def test_difference_tells_rounding_from_another_model(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "first")
    detector.save(tmp_path / "again")
    assert difference(tmp_path / "first", tmp_path / "again").equal
    assert "byte for byte" in verdict("m version 1", difference(tmp_path / "first", tmp_path / "again"))
    tensors = load_file(tmp_path / "again/model.safetensors")
    name = max(tensors, key=lambda one: tensors[one].numel())
    largest = float(tensors[name].abs().max())
    for share in (1e-6, 1e-2):
        moved = tensors | {name: tensors[name] + share * largest * torch.ones_like(tensors[name])}
        save_file(moved, tmp_path / "again/model.safetensors")
        found = difference(tmp_path / "first", tmp_path / "again")
        assert (found.equal, found.rounding, found.tensor) == (False, True, name)
        assert found.tensors == pytest.approx(share, rel=0.2)
    for threshold, rounding in ((2.001, True), (2.1, False)):
        limits = json.loads((tmp_path / "first/calibration.json").read_text())
        limits["bolt"]["threshold"] = threshold
        (tmp_path / "again/calibration.json").write_text(json.dumps(limits))
        found = difference(tmp_path / "first", tmp_path / "again")
        assert found.rounding == rounding
        assert found.thresholds == pytest.approx(threshold / 2 - 1)
    del tensors[name]
    save_file(tensors, tmp_path / "again/model.safetensors")
    assert difference(tmp_path / "first", tmp_path / "again").tensors == float("inf")


def test_a_method_without_tensors_is_told_by_its_thresholds(encoder: Encoder, tmp_path: Path) -> None:
    grnr = METHODS["grnr"]
    own = grnr.settings(neighbours=5)
    for name, threshold in (("first", 1.0), ("again", 1.001), ("other", 1.5)):
        made = Detector(encoder, grnr, own, {ALL: grnr.make(own, encoder.shape)}, MULTI, {"nut": limits(threshold)})
        made.save(tmp_path / name)
    found = difference(tmp_path / "first", tmp_path / "again")
    assert (found.equal, found.rounding, found.tensors) == (False, True, 0.0)
    assert not difference(tmp_path / "first", tmp_path / "other").rounding


def test_a_threshold_that_moved_is_seen(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "first")
    detector.thresholds.pop("nut")
    detector.save(tmp_path / "again")
    found = difference(tmp_path / "first", tmp_path / "again")
    assert (found.tensors, found.thresholds, found.rounding) == (0.0, float("inf"), False)


@pytest.mark.parametrize(("shift", "rounding"), [(1e-5, True), (0.5, False)])
def test_looks_that_moved_are_seen(detector: Detector, tmp_path: Path, shift: float, rounding: bool) -> None:
    looks = np.linspace(0, 1, 20, dtype=np.float32).reshape(10, 2)
    detector.plausibility = Plausibility({"nut": looks})
    detector.save(tmp_path / "first")
    detector.plausibility = Plausibility({"nut": looks + np.float32(shift)})
    detector.save(tmp_path / "again")
    found = difference(tmp_path / "first", tmp_path / "again")
    assert (found.tensors, found.rounding) == (0.0, rounding)
    assert found.thresholds == pytest.approx(shift, rel=0.01)
    detector.plausibility = Plausibility({})
    detector.save(tmp_path / "without")
    assert difference(tmp_path / "first", tmp_path / "without").thresholds == float("inf")


def test_arguments_are_refused_before_anything_is_imported() -> None:
    done = subprocess.run([sys.executable, "-m", "pipelines.reproduce"], capture_output=True, check=False, text=True)
    assert done.returncode == 2
    assert "version" in done.stderr
