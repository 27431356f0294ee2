"""The entries about new versions: who made one, of what, and the digests of all its files."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from inpformer.digests import folder_digest
from pipelines.platform.registry import (
    download_detector,
    download_evidence,
    download_export,
    find_version,
)
from pipelines.record.entry import Entry
from pipelines.record.record import Record
from pipelines.record.steps import EXPORT, RECALIBRATION, REGISTRATION

# What a version's tags say of it, that the record keeps: tags can be changed.
KEPT = ("data.digest", "git.commit", "git.dirty", "setting", "method", "recalibrated.from", "recalibrated.category")


def note_version(model_name: str, number: str, kind: str, detector: str) -> None:
    """Records that a version was made, once; `detector` is the digest of its detector folder. A call that was cut off
    between the version and its entry is made up for by the next.
    """
    record = Record.open(model_name)
    if about(record.entries(), number):
        return
    version = find_version(model_name, number)
    with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
        evidence = evidence_digest(model_name, number, Path(folder))
    made_of = {name: version.tags[name] for name in KEPT if name in version.tags}
    details = {"detector": detector, "evidence": evidence, "made_of": made_of, "run": version.run_id}

    def once(entries: Sequence[Entry]) -> None:
        if about(entries, number):
            raise _NotedError

    try:
        record.append(kind, number, details, once)
    except _NotedError:
        return


def note_export(model_name: str, number: str, name: str, digest: str) -> None:
    """Records that a version has an export of that name now, with the digest of its folder."""
    Record.open(model_name).append(EXPORT, number, {"export": name, "files": digest})


def exports(entries: Sequence[Entry]) -> list[Entry]:
    """The entries of the exports that versions have."""
    return [entry for entry in entries if entry.kind == EXPORT]


class _NotedError(Exception):
    """Another process has recorded the version meanwhile."""


def about(entries: Sequence[Entry], number: str) -> Entry | None:
    """The entry that says how a version was made, if there is one."""
    return next((e for e in entries if e.kind in (REGISTRATION, RECALIBRATION) and e.version == number), None)


def evidence_digest(model_name: str, number: str, folder: Path) -> str | None:
    """sha256 (hex) of the evidence that MLflow holds of a version; None if it has none."""
    fetched = download_evidence(model_name, number, folder / "evidence")
    return folder_digest(fetched) if fetched else None


def detector_digest(model_name: str, number: str, folder: Path) -> str:
    """sha256 (hex) of the detector folder that MLflow holds of a version."""
    return folder_digest(download_detector(model_name, number, folder / "detector"))


def export_digest(model_name: str, number: str, digest: str, folder: Path) -> str:
    """sha256 (hex) of an exported folder that MLflow holds of a version, under the digest that it had."""
    return folder_digest(download_export(model_name, number, digest, folder / "exports"))
