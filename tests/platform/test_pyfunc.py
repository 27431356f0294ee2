"""A version as plain MLflow sees it: loaded by `mlflow.pyfunc`, and served by `mlflow models serve`."""

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image

from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from pipelines.platform.command import search_path
from pipelines.platform.registry import Evidence, register, set_alias
from pipelines.platform.runs import Run
from tests.images.deep_files import LZW, pnm, rule, tiff, values
from tests.images.deep_files import png as deep_png
from tests.platform.test_registry import NAME
from tests.platform.test_registry import registry as registry
from tests.s3_server import free_ports
from tests.serving.model_store import eventually

CHAMPION = f"models:/{NAME}@champion"


def png(seed: int = 0) -> bytes:
    file = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (50, 70, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def champion(registry: MlflowClient, detector: Detector, tmp_path: Path) -> Detector:
    """The categories nut (every image fails) and bolt (every image passes), as @champion."""
    detector.save(tmp_path / "detector")
    register(Run.open("key", "a run", {}, {}), tmp_path / "detector", NAME, Evidence())
    set_alias(NAME, "champion", "1")
    return detector


def test_it_scores_and_decides_as_the_detector_does(champion: Detector) -> None:
    model = mlflow.pyfunc.load_model(CHAMPION)
    contents = [png(0), png(1), png(0)]
    found = model.predict(pd.DataFrame({"image": contents, "category": ["nut", "bolt", "bolt"]}))
    images = [Image.open(BytesIO(content)) for content in contents]
    expected = champion.predict(images, ["nut", "bolt", "bolt"]).scores
    np.testing.assert_allclose(found["score"], expected, rtol=1e-6)
    assert found["decision"].tolist() == ["FAIL", "PASS", "PASS"]
    assert found["threshold"].tolist() == [0.0, 2.0, 2.0]
    bare = model.predict(pd.DataFrame({"image": contents[:1]})).iloc[0]
    assert bare["score"] == found["score"][0]
    assert bare[["decision", "threshold"]].isna().all()


def test_sixteen_bits_are_seen_by_the_white_that_the_version_carries(
    registry: MlflowClient, detector: Detector, tmp_path: Path
) -> None:
    encoder = detector.encoder
    settings, transform = replace(encoder.settings, white=4095), replace(encoder.transform, white=4095)
    detector.encoder = Encoder(settings, encoder.network, transform)
    detector.save(tmp_path / "detector")
    register(Run.open("key", "a run", {}, {}), tmp_path / "detector", NAME, Evidence())
    set_alias(NAME, "champion", "1")
    model, deep = mlflow.pyfunc.load_model(CHAMPION), values(50, 70, 3, most=4095)
    small = BytesIO()
    Image.fromarray(rule(deep, 4095)).save(small, "PNG")
    contents = [small.getvalue(), deep_png(deep), tiff(deep, ">", LZW), pnm(deep, 4095)]
    scores = model.predict(pd.DataFrame({"image": contents, "category": ["nut"] * 4}))["score"].tolist()
    assert len(set(scores)) == 1


def test_what_is_no_file_of_an_image_is_refused(champion: Detector) -> None:
    model = mlflow.pyfunc.load_model(CHAMPION)
    for other in ("folder/image.png", np.zeros((50, 70, 3), np.uint8)):
        with pytest.raises(UserError, match="the column image holds"):
            model.predict(pd.DataFrame({"image": [other], "category": ["nut"]}))
    for content, category, wrong in ((b"no image", "nut", "the image"), (png(), "screw", "screw")):
        with pytest.raises(UserError, match=wrong):
            model.predict(pd.DataFrame({"image": [content], "category": [category]}))


def test_mlflow_knows_what_it_takes_needs_and_an_example(champion: Detector) -> None:
    model = mlflow.pyfunc.load_model(CHAMPION)
    info = mlflow.models.get_model_info(CHAMPION)
    assert [(c.name, str(c.type), c.required) for c in info.signature.inputs.inputs] == [
        ("image", "DataType.binary", True),
        ("category", "DataType.string", False),
    ]
    assert info.signature.outputs.input_names() == ["score", "decision", "threshold"]
    example = model.input_example
    assert example["category"].tolist() == ["bolt"]
    assert model.predict(example)["decision"].tolist() == ["PASS"]
    pinned = Path(mlflow.pyfunc.get_model_dependencies(CHAMPION)).read_text().split()
    assert all("==" in line for line in pinned)
    assert {"torch", "timm", "mlflow"} <= {line.split("==")[0] for line in pinned}


def post(port: int, body: dict[str, Any]) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
            return True
    except OSError:
        return False


def test_mlflow_models_serve_answers(champion: Detector, empty: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [str(Path(sys.executable).with_name("mlflow")), "models", "serve", "-m", CHAMPION, "-p", str(port)]
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host=127.0.0.1", "--env-manager=local", "--workers=1"],
            env={**os.environ, "PATH": search_path()},  # MLflow starts uvicorn by its name
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        eventually(lambda: process.poll() is not None or answers(port))
        assert process.poll() is None, (tmp_path / "serve.log").read_text()
        image = base64.b64encode(png()).decode()
        status, answer = post(port, {"dataframe_records": [{"image": image, "category": "nut"}]})
        (row,) = answer["predictions"]
        score = champion.predict([Image.open(BytesIO(png()))], ["nut"]).scores[0]
        assert (status, row["decision"], row["threshold"]) == (200, "FAIL", 0.0)
        assert row["score"] == pytest.approx(float(score), rel=1e-5)
        assert post(port, {"dataframe_records": [{"image": image, "category": "screw"}]})[0] >= 400
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
