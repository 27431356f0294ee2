"""The gate's findings in the MLflow run of the pipeline."""

import json
from pathlib import Path

from pipelines.platform.runs import Run


def log_gate(run: Run, findings: Path) -> None:
    """Logs the number of findings of each check as metric gate.<check>."""
    counts = json.loads(findings.read_text(encoding="utf-8"))["counts"]
    run.log_metrics({f"gate.{name}": float(sum(levels.values())) for name, levels in counts.items()})
