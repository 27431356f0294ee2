"""One endpoint setting, AWS_ENDPOINT_URL, for what others do with S3: DVC's remote and MLflow's artefacts."""

import os
import re
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from mlflow import MlflowClient

from inpformer.judging.detector import Detector
from pipelines.platform.registry import Evidence, download_detector, register
from pipelines.platform.runs import Run
from pipelines.platform.tracking import tracking_uri
from tests.s3_server import S3Server


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("dvc")), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ)


def test_dvc_pushes_to_and_pulls_from_the_endpoint(
    s3_here: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/image.png").write_bytes(b"an image")
    assert dvc(tmp_path, "init", "--no-scm").returncode == 0
    assert dvc(tmp_path, "remote", "add", "--default", "s3", f"s3://tests/{uuid4().hex}").returncode == 0
    assert dvc(tmp_path, "add", "data").returncode == 0
    pushed = dvc(tmp_path, "push")
    assert pushed.returncode == 0, pushed.stderr
    for folder in ("data", ".dvc/cache"):
        subprocess.run(["rm", "-r", folder], cwd=tmp_path, check=True)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    refused = dvc(tmp_path, "pull")
    assert refused.returncode != 0
    assert not (tmp_path / "data/image.png").exists()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_here.secret_key)
    pulled = dvc(tmp_path, "pull")
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "data/image.png").read_bytes() == b"an image"


def test_mlflow_keeps_versions_at_the_endpoint(
    s3_here: S3Server, tmp_path: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    prefix = uuid4().hex
    MlflowClient(tracking_uri()).create_experiment("inpformer", f"s3://tests/{prefix}")
    detector.save(tmp_path / "detector")
    run = Run.open("key", "a run", {}, {})
    assert register(run, tmp_path / "detector", "inpformer", Evidence()) == "1"
    kept = s3_here.client().list_objects_v2(Bucket="tests", Prefix=prefix)["Contents"]
    assert sum(entry["Key"].endswith("/artifacts/detector/model.safetensors") for entry in kept) == 1
    held = Detector.load(download_detector("inpformer", "1", tmp_path / "fetched"))
    assert held.thresholds == detector.thresholds


def test_wrong_keys_for_artefacts_are_one_sentence(
    s3_here: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    code = (
        "from mlflow import MlflowClient\nfrom pathlib import Path\n"
        "from pipelines.platform import command, runs, tracking\n"
        "MlflowClient(tracking.tracking_uri()).create_experiment('inpformer', 's3://tests/artefacts')\n"
        "command.run(lambda: runs.Run.open('key', 'a run', {}, {}).log_file(Path('picture.png'), 'pictures'))\n"
    )
    (tmp_path / "picture.png").write_bytes(b"a picture")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    says = r"error: MLflow at sqlite:.* did not do its part .*: check that the server and its artefact store are up"
    assert re.match(says, done.stderr.strip().splitlines()[-1])
    assert "Traceback" not in done.stderr
