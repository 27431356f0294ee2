"""A registry with a version and its export, which the tests of exports share."""

import os
import subprocess
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inpformer.backends.names import EXPORT_TAG
from inpformer.encoders.encoder import Encoder
from inpformer.judging.detector import Detector
from pipelines.manifest.table import Manifest
from pipelines.platform.registry import Version, find_version
from tests.promote.products import NAME, guessing, products, registered

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Made:
    """A registry in `folder`, a version in it, and what its first export printed."""

    manifest: Manifest
    folder: Path
    version: Version
    detector: Detector
    said: str

    @property
    def out(self) -> Path:
        return self.folder / "exports" / f"{NAME}-{self.version.number}-onnxruntime-32"

    @property
    def digest(self) -> str:
        """Of the export that the version names."""
        return find_version(NAME, self.version.number).tags[f"{EXPORT_TAG}onnxruntime-32"]


@pytest.fixture(scope="package")
def made(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An untrained detector; its export is by the command, in a process of its own."""
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Path("params.yaml").write_text("{}")
        manifest = products(Path("data"))
        detector = guessing(encoder, manifest, 1)
        version = registered(detector, manifest, folder, "first")
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.export", "challenger", "--backend", "onnxruntime"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return Made(manifest, folder, version, detector, done.stdout)


@pytest.fixture
def registry(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory has it."""
    monkeypatch.chdir(made.folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def arguments(made: Made, **given: Any) -> Namespace:
    return Namespace(
        **{"version": made.version.number, "backend": "onnxruntime", "precision": 32, "out": None, **given}
    )
