"""Benchmarks answer for their arguments at once."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(file.parent.name for file in (ROOT / "benchmarks").glob("*/__main__.py"))
HEAVY = {"torch", "timm", "ray", "mlflow", "pyarrow", "anomalib"}


@pytest.mark.parametrize("name", NAMES)
def test_help_loads_nothing_heavy(name: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", f"benchmarks.{name}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert f"python -m benchmarks.{name}" in done.stdout
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in loaded
    assert not loaded & HEAVY
