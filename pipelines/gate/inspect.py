"""Looks for what would spoil a model or its thresholds, before any work is done, and shows it."""

import json
from argparse import Namespace
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace

from inpformer.config import build
from inpformer.encoders.settings import EncoderSettings
from inpformer.errors import UserError
from inpformer.judging.settings import CalibrationSettings
from pipelines.gate import checks
from pipelines.gate.finding import CHECKS, ERROR, WARNING, Finding
from pipelines.gate.linked import Linked, write_linked
from pipelines.gate.look import look_at_all
from pipelines.gate.page import page
from pipelines.gate.settings import GateSettings
from pipelines.gate.similar import near_duplicates
from pipelines.gate.suspects import suspects
from pipelines.manifest.table import Manifest, read_manifest
from pipelines.platform import files, params


def inspect(
    manifest: Manifest, settings: GateSettings, promise: CalibrationSettings, white: int
) -> tuple[list[Finding], Linked]:
    """Runs all checks that are not ignored, in the order of CHECKS; with the findings, which good images show one part.
    It reads test images too, to find their copies and their own faults: no model, threshold or parameter is chosen by
    them. `white` is the encoder's, of pictures of 16 bits a channel.

    Raises UserError if an image is gone or unreadable since the manifest was made.
    """
    rows = list(manifest.rows)
    manifest = replace(manifest, rows=rows)  # read once, not anew by each check
    looks = look_at_all(manifest, white)
    ignored = "near_duplicates" in settings.ignore
    alike, linked = ([], Linked()) if ignored else near_duplicates(rows, looks, promise.folds is not None)
    made: dict[str, Callable[[], list[Finding]]] = {
        "duplicates": lambda: checks.duplicates(rows),
        "near_duplicates": lambda: alike,
        "masks": lambda: checks.masks(rows),
        "suspects": lambda: suspects(manifest, white),
        "formats": lambda: checks.formats(rows, looks),
        "depth": lambda: checks.depth(rows, white),
        "held_out": lambda: checks.held_out(rows, linked, promise.false_alarm_rate, promise.confidence, promise.folds),
    }
    return [finding for name, check in made.items() if name not in settings.ignore for finding in check()], linked


def count(findings: Sequence[Finding], ignored: Collection[str]) -> dict[str, dict[str, int]]:
    """Errors and warnings by check, for all that were made."""
    return {
        name: {level: sum(f.check == name and f.severity == level for f in findings) for level in (ERROR, WARNING)}
        for name in CHECKS
        if name not in ignored
    }


def run(args: Namespace) -> None:
    """Writes report and findings, then stops the pipeline if there are errors."""
    settings, manifest = params.read_section("gate", GateSettings), read_manifest(args.manifest)
    encoder = params.check().get("features", {}).get("encoder", {})
    white = build(EncoderSettings, encoder, f"{params.PARAMS_FILE}: features.encoder").white
    found, linked = inspect(manifest, settings, params.read_section("calibrate", CalibrationSettings), white)
    counts = count(found, settings.ignore)
    with files.written_whole(args.report) as folder:
        folder.mkdir()
        (folder / "index.html").write_text(page(manifest, found, settings.ignore, white), encoding="utf-8")
    write_linked(linked, args.linked)
    with files.written_whole(args.findings) as temporary:
        values = {"counts": counts, "ignored": settings.ignore, "findings": [asdict(finding) for finding in found]}
        temporary.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, levels in counts.items():
        said = f"errors {levels[ERROR]}, warnings {levels[WARNING]}" if any(levels.values()) else "ok"
        print(f"{name}: {said}")
    if errors := sum(levels[ERROR] for levels in counts.values()):
        found_errors = "1 error" if errors == 1 else f"{errors} errors"
        raise UserError(f"the data gate found {found_errors}: look at {args.report / 'index.html'} and mend the data.")
    print(f"the pictures are in {args.report / 'index.html'}")
