"""Which version decided on an image at a time, by which threshold, and from which commit and data it was made."""

import re
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inpformer.digests import folder_digest
from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from inpformer.judging.plausibility import reviewed
from pipelines.audit.evidence import Judged, judged
from pipelines.audit.history import Reign, champions_at
from pipelines.platform.registry import (
    Version,
    download_detector,
    download_evidence,
    find_version,
    has_version,
)
from pipelines.platform.weights import load_encoder
from pipelines.record.entry import Entry
from pipelines.record.versions import about
from pipelines.register.evidence import file_digest

MOST = 100  # images of a part


def decision(
    model_name: str, entries: Sequence[Entry], wanted: str, time: datetime | None, category: str | None
) -> dict[str, Any]:
    """What decided on `wanted` (a file, a sha256, a path in the data, or a part) at `time`, by default now: one
    version, or several where the record cannot say which.

    Raises UserError if no version was champion then, and for an image that is neither here nor in the evidence.
    """
    if not wanted.strip():
        raise UserError("the image is empty: give a file, its sha256, its path in the data, or the part that it shows.")
    at = time or datetime.now(UTC)
    found = [reign for reign in champions_at(entries, at) if reign.version is not None]
    if not found:
        raise UserError(f"{model_name} had no champion at {at.isoformat()}, by the record: give a later --time.")
    sha256 = ""
    if Path(wanted).is_file():
        sha256 = file_digest(Path(wanted))
    elif re.fullmatch(r"[0-9a-f]{64}", wanted):
        sha256 = wanted
    return {
        "model": model_name,
        "asked": wanted,
        "sha256": sha256 or None,
        "time": at.isoformat(),
        "certain": len(found) == 1,
        "decided": [_by(model_name, entries, reign, wanted, sha256, category) for reign in found],
    }


def _by(
    model_name: str, entries: Sequence[Entry], reign: Reign, wanted: str, sha256: str, category: str | None
) -> dict[str, Any]:
    number = reign.version or ""
    said: dict[str, Any] = {
        "version": number,
        "champion_since": {"after": reign.earliest and reign.earliest.isoformat(), "by": reign.latest.isoformat()},
        "by_entry": {"number": reign.entry.number, "kind": reign.entry.kind, "actor": reign.entry.actor},
    }
    if not has_version(model_name, number):
        return {**said, "deleted": True}
    version = find_version(model_name, number)
    made = about(entries, number)
    with tempfile.TemporaryDirectory(prefix="inpformer-") as temporary:
        folder = Path(temporary)
        fetched = download_detector(model_name, number, folder / "detector")
        evidence = download_evidence(model_name, number, folder / "evidence")
        kept, now = made.text_of("detector") if made else None, folder_digest(fetched)
        said |= {
            "detector": now,
            "as_registered": None if kept is None else kept == now,
            **_made_of(version, made),
        }
        rows = [row for row in judged(evidence) if row.is_meant(wanted, sha256)] if evidence else []
        rows = [row for row in rows if category in (None, row.category)]
        detector = Detector.load(fetched, load=load_encoder)
        if rows:
            return {**said, "images": [_of_evidence(detector, row) for row in rows[:MOST]], "of": len(rows)}
        return {**said, "images": [_asked_now(detector, wanted, category, number)], "of": 1}


def _made_of(version: Version, made: Entry | None) -> dict[str, Any]:
    """By the record; by the version's tags, which can be changed, where that does not say."""
    recorded = made.details.get("made_of") if made else None
    tags = recorded if isinstance(recorded, dict) else version.tags
    return {
        "commit": tags.get("git.commit"),
        "uncommitted_changes": tags.get("git.dirty"),
        "data": tags.get("data.digest"),
        "known_from": "record" if isinstance(recorded, dict) else "tags",
    }


def _of_evidence(detector: Detector, row: Judged) -> dict[str, Any]:
    return {
        "path": row.path,
        "part": row.part or None,
        "sha256": row.sha256 or None,
        **_judgement(detector, row.category, row.score),
        "score_from": f"the version's evidence ({row.used})",
    }


def _asked_now(detector: Detector, wanted: str, category: str | None, number: str) -> dict[str, Any]:
    """The version's own detector judges the file."""
    file = Path(wanted)
    if not file.is_file():
        raise UserError(
            f"{wanted} is no file here, and nothing in the evidence of version {number}: give the image's file."
        )
    if category is None and len(detector.thresholds) == 1:
        (category,) = detector.thresholds
    if category not in detector.thresholds:
        known = ", ".join(sorted(detector.thresholds)) or "none"
        raise UserError(f"--category is {category}: version {number} knows {known}; say which one {wanted} shows.")
    found = detector.predict([detector.open(file)], [category])
    doubt = detector.plausibility.doubt(found.looks[0], category)
    said = _judgement(detector, category, float(found.scores[0]))
    if doubt is not None:
        said |= {"decision": reviewed(said["decision"], True), "doubt": doubt.reason}
    return {"path": wanted, **said, "score_from": "the version's detector, asked now"}


def _judgement(detector: Detector, category: str, score: float) -> dict[str, Any]:
    """By the score alone."""
    limits = detector.thresholds.get(category)
    if limits is None:
        return {"category": category, "score": score, "threshold": None, "decision": None}
    return {
        "category": category,
        "score": score,
        "threshold": limits.threshold,
        "review_threshold": limits.review_threshold,
        "decision": limits.decide(score),
    }
