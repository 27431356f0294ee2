"""Whether the record, and the files of each version, are as they were written."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from inpformer.backends.names import is_digest
from inpformer.errors import UserError
from pipelines.platform.ledger import Held, Ledger
from pipelines.platform.registry import (
    DETECTOR_FOLDER,
    download_signature,
    has_version,
    is_signed,
    version_numbers,
)
from pipelines.platform.runs import download_run_file
from pipelines.platform.signing import VERIFY_KEY, folder_fault, text_fits, verify_key
from pipelines.promote.gate import VERDICT_FILE
from pipelines.record.chain import Fault, faults, readable
from pipelines.record.entry import Entry, parse
from pipelines.record.steps import RECALIBRATION, REGISTRATION, VERDICT
from pipelines.record.versions import about, detector_digest, evidence_digest, export_digest, exports
from pipelines.register.evidence import file_digest


def verify_record(ledger: Ledger, held: Held) -> list[Fault]:
    """What is wrong with the entries that it holds, and with the files that these hold digests of."""
    model_name = ledger.model_name
    entries = readable(held.texts)
    found = [*faults(model_name, held.texts, held.head), *unsigned(held), *rivals(ledger)]
    for entry in entries:
        if entry.kind in (REGISTRATION, RECALIBRATION) and entry.version is not None:
            found += _files(model_name, entry.version, entry)
        elif entry.kind == VERDICT:
            found += _verdict(entry)
    for entry in exports(entries):
        found += _export(model_name, entry)
    return found


def verify_export(model_name: str, exported: Held, held: Held) -> list[Fault]:
    """What is wrong with an export, and what of it MLflow does not have any more."""
    found = [*faults(model_name, exported.texts), *unsigned(exported)]
    for number, text in exported.texts.items():
        if number not in held.texts:
            found.append(Fault("is in the export, and missing in MLflow", number))
        elif held.texts[number] != text:
            found.append(Fault("is another in MLflow than in the export", number))
    return found


def rivals(ledger: Ledger) -> Iterator[Fault]:
    """Other records of the same model: somebody pointed the registry at another run."""
    for run_id, text in ledger.others().items():
        try:
            model = parse(text).model
        except ValueError:
            continue
        if model == ledger.model_name:
            yield Fault(f"run {run_id} is a record of {model} too, and the registry points at {ledger.run_id}", 1)


def unsigned(held: Held) -> Iterator[Fault]:
    """Where a public key is configured: the entries without its signature, from the first one that has any. Those
    before, from when there was no key, are held by the chain.
    """
    key = verify_key()
    if key is None or not held.texts:
        return
    first = min((number for number in held.signatures if number in held.texts), default=None)
    if first is None:
        yield Fault(f"no entry is signed, and {VERIFY_KEY} names a key: this one is the last", max(held.texts))
        return
    for number, text in held.texts.items():
        if number >= first and number not in held.signatures:
            yield Fault("is not signed", number)
        elif number >= first and not text_fits(text, held.signatures[number], key):
            yield Fault("was not signed by that key, or altered since", number)


def unrecorded(model_name: str, entries: Sequence[Entry]) -> list[str]:
    """The versions that no entry tells the making of: older than the record, or made past it."""
    return [number for number in version_numbers(model_name) if about(entries, number) is None]


def _files(model_name: str, number: str, entry: Entry) -> Iterator[Fault]:
    if not has_version(model_name, number):
        yield Fault("is in the record and was deleted from the registry", version=number)
        return
    with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
        for what, digest in (("detector", detector_digest), ("evidence", evidence_digest)):
            try:
                now = digest(model_name, number, Path(folder))
            except UserError as error:
                yield Fault(f"its {what} cannot be fetched: {error}", version=number)
                continue
            if now != entry.text_of(what):
                yield Fault(
                    f"its {what} was changed: digest {_brief(now)}, {_brief(entry.text_of(what))} when it was "
                    f"registered (entry {entry.number})",
                    version=number,
                )
        if (key := verify_key()) is not None:
            yield from _signature(model_name, number, Path(folder), key)


def _signature(model_name: str, number: str, folder: Path, key: Path) -> Iterator[Fault]:
    """Of the detector folder that was fetched to check its digest."""
    detector = folder / "detector" / Path(DETECTOR_FOLDER).name
    try:
        if not is_signed(model_name, number):
            yield Fault(f"its detector is not signed, and {VERIFY_KEY} names a key", version=number)
            return
        signature = download_signature(model_name, number, folder)
    except UserError as error:
        yield Fault(f"its signature cannot be fetched: {error}", version=number)
        return
    if detector.is_dir() and (wrong := folder_fault(detector, signature, key)):
        yield Fault(f"its detector's signature does not fit: {wrong}", version=number)


def _export(model_name: str, entry: Entry) -> Iterator[Fault]:
    """The files of an export; that its version is gone, `_files` says."""
    number, name, digest = entry.version, entry.text_of("export"), entry.text_of("files")
    if number is None or digest is None or not has_version(model_name, number):
        return
    if not is_digest(digest):
        yield Fault("names an export by what is no digest", entry.number)
        return
    with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
        try:
            now = export_digest(model_name, number, digest, Path(folder))
        except UserError as error:
            yield Fault(f"its export {name} cannot be fetched: {error}", version=number)
            return
    if now != digest:
        yield Fault(f"its export {name} was changed: digest {_brief(now)} (entry {entry.number})", version=number)


def _verdict(entry: Entry) -> Iterator[Fault]:
    """The verdict's file, in the run that it was logged to."""
    page = entry.text_of("page") or ""
    run_id, _, path = page.removeprefix("runs:/").partition("/")
    if not page.startswith("runs:/") or not path:
        return
    with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
        try:
            file = download_run_file(run_id, f"{path.rpartition('/')[0]}/{VERDICT_FILE}", Path(folder))
        except UserError as error:
            yield Fault(f"its evidence cannot be fetched: {error}", entry.number)
            return
        now = file_digest(file)
    if now != entry.text_of("evidence"):
        yield Fault(f"its evidence was changed: {VERDICT_FILE} has the digest {_brief(now)}", entry.number)


def _brief(digest: str | None) -> str:
    return digest[:12] if digest else "none"


def counted(held: Held) -> tuple[int, int]:
    """How many entries, and versions, were looked at."""
    made = {entry.version for entry in readable(held.texts) if entry.kind in (REGISTRATION, RECALIBRATION)}
    return len(held.texts), len(made)
