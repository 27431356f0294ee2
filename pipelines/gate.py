"""Stage gate: looks for what would spoil a model or its thresholds, before any work is done, and shows it.

python -m pipelines.gate --manifest MANIFEST.parquet --report FOLDER --findings FINDINGS.json

Errors stop the pipeline, warnings do not. The report is FOLDER/index.html; FINDINGS.json holds the same for machines.
"""

import argparse
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from inpformer.calibration import CalibrationSettings
from inpformer.errors import UserError
from inpformer.settings import require
from pipelines import gate_checks, stage
from pipelines.gate_finding import CHECKS, ERROR, WARNING, Finding
from pipelines.gate_look import look_at_all
from pipelines.gate_page import page
from pipelines.gate_similar import near_duplicates
from pipelines.gate_suspects import suspects
from pipelines.manifest_table import Manifest, read_manifest
from pipelines.params import read_section


@dataclass(frozen=True)
class GateSettings:
    """`ignore` names the checks that are left out."""

    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.ignore:
            require(name in CHECKS, "ignore", name, f"among {', '.join(CHECKS)}")


def inspect(manifest: Manifest, settings: GateSettings, promise: CalibrationSettings) -> list[Finding]:
    """Runs all checks that are not ignored, in the order of CHECKS.

    Raises UserError if an image is gone or unreadable since the manifest was made.
    """
    rows, looks = list(manifest.rows), look_at_all(manifest)
    checks: dict[str, Callable[[], list[Finding]]] = {
        "duplicates": lambda: gate_checks.duplicates(rows),
        "near_duplicates": lambda: near_duplicates(rows, looks),
        "masks": lambda: gate_checks.masks(rows),
        "suspects": lambda: suspects(manifest),
        "formats": lambda: gate_checks.formats(rows, looks),
        "held_out": lambda: gate_checks.held_out(rows, promise.false_alarm_rate, promise.confidence),
    }
    return [finding for name, check in checks.items() if name not in settings.ignore for finding in check()]


def count(findings: Sequence[Finding], ignored: Collection[str]) -> dict[str, dict[str, int]]:
    """Errors and warnings by check, for all that were made."""
    return {
        name: {level: sum(f.check == name and f.severity == level for f in findings) for level in (ERROR, WARNING)}
        for name in CHECKS
        if name not in ignored
    }


def main() -> None:
    """Writes report and findings, then stops the pipeline if there are errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--findings", type=Path, required=True)
    args = parser.parse_args()
    settings, manifest = read_section("gate", GateSettings), read_manifest(args.manifest)
    found = inspect(manifest, settings, read_section("calibrate", CalibrationSettings))
    counts = count(found, settings.ignore)
    with stage.written_whole(args.report) as folder:
        folder.mkdir()
        (folder / "index.html").write_text(page(manifest, found, settings.ignore), encoding="utf-8")
    with stage.written_whole(args.findings) as temporary:
        values = {"counts": counts, "ignored": settings.ignore, "findings": [asdict(finding) for finding in found]}
        temporary.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, levels in counts.items():
        said = f"errors {levels[ERROR]}, warnings {levels[WARNING]}" if any(levels.values()) else "ok"
        print(f"{name}: {said}")
    if errors := sum(levels[ERROR] for levels in counts.values()):
        found_errors = "1 error" if errors == 1 else f"{errors} errors"
        raise UserError(f"the data gate found {found_errors}: look at {args.report / 'index.html'} and mend the data.")
    print(f"the pictures are in {args.report / 'index.html'}")


if __name__ == "__main__":
    stage.run(main)
