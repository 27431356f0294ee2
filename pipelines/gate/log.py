"""The gate's findings in the MLflow run of the pipeline."""

import json
from pathlib import Path

from pipelines.platform.tracking import Run


def log_gate(run: Run, report: Path, findings: Path) -> None:
    """Logs the page as the run's artefact gate/index.html and the number of findings of each check as metric
    gate.<check>.
    """
    counts = json.loads(findings.read_text(encoding="utf-8"))["counts"]
    run.log_files(report, "gate")
    run.log_metrics({f"gate.{name}": float(sum(levels.values())) for name, levels in counts.items()})
