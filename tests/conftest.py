"""What tests share: quiet libraries, one Ray cluster a session, one small detector."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ |= {
    # Tests work on tiny tensors, often in several processes: more threads only wait for each other.
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # as the service has it
    "DVC_NO_ANALYTICS": "1",
}

import numpy as np
import ray
import torch
from mlflow import MlflowClient
from PIL import Image

from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.judging.calibration import Threshold
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL, LearntFrom
from inpformer.methods import METHODS
from inpformer.methods.base import Categorised, Fit, FitCategories, Model
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.methods.method import Method
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import Manifest
from serving.__main__ import RAY_ENVIRONMENT
from tests.ray_head import ray_head as ray_head
from tests.s3_server import s3_here as s3_here
from tests.s3_server import s3_server as s3_server

# A test run in the background would hand its ignored Ctrl-C down to the commands that it interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what this machine lacks."""
    if item.get_closest_marker("shared") and not SHARED_DATA.is_dir():
        pytest.skip(f"no photographs in {SHARED_DATA}")
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if item.get_closest_marker("browser") and shutil.which("chromium") is None:
        pytest.skip("no Chromium on this machine")


@pytest.fixture(scope="session", autouse=True)
def kept_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a service keeps of a registry does not go into the home folder."""
    os.environ["INPFORMER_KEEP"] = str(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, to be copied: MLflow takes seconds to make one."""
    database = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{database}").search_registered_models()
    return database


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """One local Ray for the whole session, as starting one costs a quarter of a minute; yields its address."""
    proxy = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
    os.environ[proxy] = RAY_ENVIRONMENT[proxy]  # before Ray starts: its processes read it
    context = ray.init(address="local", num_cpus=2, log_to_driver=False, configure_logging=False)
    yield context.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The bundled encoder on 64-pixel images: 4×4 tokens."""
    return load_encoder(EncoderSettings(resize=64, crop=64, levels=(4, 8, 16, 32)))


def noise_parts(root: Path, train: int) -> Manifest:
    """The manifest of one category of noise pictures: so many good training images, and two test images."""
    rng = np.random.default_rng(0)
    for name in [*(f"train/good/{n}" for n in range(train)), "test/good/0", "test/chip/0", "ground_truth/chip/0"]:
        file = root / "nut" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(file)
    return build_manifest(root, ManifestSettings("unused"))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Twelve good training images, of which some are held out, and two test images."""
    return noise_parts(tmp_path / "data", 12)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, which its test may make another size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def limits(fail: float, review: float | None = None) -> Threshold:
    """A threshold set by 99 images, at a promise of 1 %."""
    return Threshold(
        fail, fail if review is None else review, 0.01, None, 0, tuple(fail - n for n in range(98, -1, -1))
    )


INP_FORMER = METHODS["inp_former"]
# A small INP-Former on the small encoder's four levels.
OWN = InpFormerSettings(num_prototypes=4, grid=4, channels=32, epochs=2, warmup=3)


def untrained(encoder: Encoder, seed: int = 0, method: Method = INP_FORMER, own: Any = OWN) -> Model:
    """A model whose projection, or memory, was fitted to noise, and whose weights are random."""
    torch.manual_seed(seed)
    model = method.make(own, encoder.shape)
    noise = [torch.randn(16, level.tokens, level.channels) for level in encoder.shape.levels]
    with torch.no_grad():
        for phase in model.eval().phases():
            groups = method.wants(own, encoder.shape).of(noise)
            if isinstance(phase, Fit):
                phase.fit([groups])
            elif isinstance(phase, FitCategories):
                phase.fit([Categorised(groups, torch.arange(16) % 2)])
    return model


MULTI = LearntFrom("multi-class", "0" * 64, ("bolt", "nut"))


@pytest.fixture
def detector(encoder: Encoder) -> Detector:
    """An untrained detector for the categories nut (every image fails) and bolt (every image passes)."""
    thresholds = {"nut": limits(0.0), "bolt": limits(2.0)}
    return Detector(encoder, INP_FORMER, OWN, {ALL: untrained(encoder)}, MULTI, thresholds)
