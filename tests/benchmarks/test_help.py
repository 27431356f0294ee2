"""Benchmarks answer for their arguments at once, and what they import afterwards is there."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("metrics", "quality")])  # anomalib; beside
def test_what_measures_can_be_imported(name: str) -> None:
    assert import_module(f"benchmarks.{name}.measure").run
