"""Versions and entries that are signed: what verifies is loaded, what does not is named, with real keys."""

import shutil
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from mlflow import MlflowClient

from inpformer.digests import folder_digest
from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from pipelines.audit.commands import ledger_of
from pipelines.audit.export import read_export, write_export
from pipelines.audit.verify import verify_export, verify_record
from pipelines.platform.registry import Evidence, register
from pipelines.platform.runs import Run
from pipelines.platform.signing import SIGNATURE_FILE, SIGNATURE_FOLDER, SIGNING_KEY, VERIFY_KEY, sign_text, text_fits
from pipelines.platform.tracking import tracking_uri
from pipelines.record.chain import Fault
from pipelines.record.record import Record
from pipelines.record.steps import REGISTRATION
from pipelines.record.versions import note_version
from serving.fetched import Wanted
from serving.registry import Registry
from serving.signature import SIGNATURE
from tests.platform.test_registry import NAME
from tests.platform.test_registry import registry as registry


def faults_now() -> list[Fault]:
    """What is wrong with the record and the files of versions."""
    ledger = ledger_of(NAME)
    return verify_record(ledger, ledger.read())


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """A private and a public key's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both variables name a pair; returns the public key."""
    private, public = key_pair(tmp_path, "ours")
    monkeypatch.setenv(SIGNING_KEY, str(private))
    monkeypatch.setenv(VERIFY_KEY, str(public))
    return public


def made(detector: Detector, folder: Path) -> None:
    """A version, registered and recorded."""
    if not folder.exists():
        detector.save(folder)
    register(Run.open("key", "a run", {}, {}), folder, NAME, Evidence())
    note_version(NAME, "1", REGISTRATION, folder_digest(folder))


def files_of(client: MlflowClient) -> Path:
    """Where the version's files lie."""
    source = client.get_model_version(NAME, "1").source
    return Path(urlsplit(client.get_logged_model(source.removeprefix("models:/")).artifact_location).path)


def test_service_and_pipeline_look_for_a_signature_in_one_place() -> None:
    assert f"{SIGNATURE_FOLDER}/{SIGNATURE_FILE}" == SIGNATURE


def test_a_signed_version_verifies_and_is_served(
    registry: MlflowClient, detector: Detector, tmp_path: Path, keys: Path
) -> None:
    made(detector, tmp_path / "detector")
    assert faults_now() == []
    served = Registry(tracking_uri()).load(NAME, 1, Wanted(verify_key=str(keys))).detector
    assert served.thresholds == detector.thresholds


@pytest.mark.parametrize("what", ["changed", "added", "no signature", "no bundle", "other key"])
def test_what_does_not_verify_is_not_served(
    registry: MlflowClient, detector: Detector, tmp_path: Path, keys: Path, what: str
) -> None:
    made(detector, tmp_path / "detector")
    folder = files_of(registry)
    calibration = folder / "artifacts/detector/calibration.json"
    if what == "changed":
        calibration.write_text(calibration.read_text().replace("0.01", "0.02"))
    elif what == "added":
        (folder / "artifacts/detector/more.json").write_text("{}")
    elif what == "no signature":
        shutil.rmtree(folder / SIGNATURE_FOLDER)
    elif what == "no bundle":
        (folder / SIGNATURE).write_text("{}")
    else:
        keys.write_bytes(key_pair(tmp_path, "theirs")[1].read_bytes())
    with pytest.raises(UserError, match="version 1 of inpformer"):
        Registry(tracking_uri()).load(NAME, 1, Wanted(verify_key=str(keys)))
    assert "1" in {fault.version for fault in faults_now()}


def test_an_entry_that_was_written_by_another_hand_is_found(
    registry: MlflowClient, detector: Detector, tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(detector, tmp_path / "detector")
    theirs, _ = key_pair(tmp_path, "theirs")
    with monkeypatch.context() as other:
        other.setenv(SIGNING_KEY, str(theirs))
        Record.open(NAME).append("refusal", "1", {})
        other.delenv(SIGNING_KEY)
        Record.open(NAME).append("refusal", "1", {})
    faults = faults_now()
    assert [fault.number for fault in faults] == [2, 3]  # the chain alone is without fault
    write_export(ledger_of(NAME).read(), tmp_path / "record.jsonl")
    found = verify_export(NAME, read_export(tmp_path / "record.jsonl"), ledger_of(NAME).read())
    assert [fault.number for fault in found] == [2, 3]


def test_what_is_older_than_the_key_is_held_by_the_chain_and_signed_when_it_is_registered_again(
    registry: MlflowClient, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(detector, tmp_path / "detector")
    private, public = key_pair(tmp_path, "ours")
    monkeypatch.setenv(VERIFY_KEY, str(public))
    faults = faults_now()
    assert [(fault.number, fault.version) for fault in faults] == [(1, None), (None, "1")]
    monkeypatch.setenv(SIGNING_KEY, str(private))
    made(detector, tmp_path / "detector")
    Record.open(NAME).append("refusal", "1", {})
    assert faults_now() == []
    with sqlite3.connect("mlflow.db") as database:
        database.execute("DELETE FROM params WHERE key LIKE '%.signature'")
    database.close()
    assert [fault.number for fault in faults_now()] == [2]


def test_a_key_that_is_none_is_refused_before_anything_is_made(
    registry: MlflowClient, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    other = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"nonsense", locked, other, None):
        monkeypatch.setenv(SIGNING_KEY, str(tmp_path / "key.pem"))
        if content is None:
            (tmp_path / "key.pem").unlink()
        else:
            (tmp_path / "key.pem").write_bytes(content)
        with pytest.raises(UserError, match=r"INPFORMER_SIGNING_KEY is .*key\.pem"):
            made(detector, tmp_path / "detector")
        assert list(registry.search_model_versions(f"name = '{NAME}'")) == []


def test_a_text_has_one_signer(tmp_path: Path, keys: Path) -> None:
    signature = sign_text("a λ")
    assert signature is not None
    assert text_fits("a λ", signature, keys)
    assert not text_fits("a μ", signature, keys)
    assert not text_fits("a λ", "nonsense!", keys)
    assert not text_fits("a λ", signature, key_pair(tmp_path, "theirs")[1])
