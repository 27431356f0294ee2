"""Exports of registered versions: proven, kept, recorded, used by the service, refused where they decide otherwise."""

import copy
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from mlflow import MlflowClient
from onnx import numpy_helper

from inpformer.backends.names import EXPORT_TAG
from inpformer.digests import folder_digest
from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from inpformer.images.transform import read_image
from inpformer.judging.detector import Detector
from inpformer.judging.exported import EXPORT_FILE, raised, read_export, use_export
from inpformer.judging.plausibility import Plausibility
from pipelines.audit.verify import verify_record
from pipelines.export import version
from pipelines.export.proof import MAP_FACTOR, TOLERANCES, images_by_category, prove, unit
from pipelines.export.version import PAGE_FILE, REPORT_FILE, run
from pipelines.platform.ledger import Ledger
from pipelines.platform.registry import find_version
from pipelines.platform.runs import download_run_file
from pipelines.platform.signing import SIGNATURE_FILE, SIGNATURE_FOLDER, SIGNING_KEY
from pipelines.platform.tracking import tracking_uri
from pipelines.record.record import Record
from pipelines.record.steps import EXPORT
from serving.fetched import Wanted
from serving.registry import Registry
from tests.conftest import limits
from tests.export.conftest import Made, arguments
from tests.platform.test_signing import key_pair
from tests.promote.products import NAME, TEST, guessing, registered

HELD_OUT = 4


pytestmark = pytest.mark.usefixtures("registry")


def test_the_report_says_what_was_compared(made: Made) -> None:
    report = json.loads((made.out / REPORT_FILE).read_text())
    assert report["passed"] is True
    assert report["faults"] == []
    assert {name: one["images"] for name, one in report["categories"].items()} == dict.fromkeys(
        made.detector.thresholds, HELD_OUT + 2 * TEST
    )
    for name, one in report["categories"].items():
        assert one["unit"] == pytest.approx(unit(made.detector.thresholds[name]))
        assert 0 < one["largest_map_difference"] <= report["map_tolerance"] == MAP_FACTOR * TOLERANCES[32]
        assert one["largest_score_difference"] <= report["tolerance"] == TOLERANCES[32]
        assert one["decided_differently"] == 0
        # Those that set the two limits lie on them, or, by rounding, just above: then between these and the export's.
        assert 0 <= one["on_the_edge"] <= 2
    assert 'class="verdict ok"' in (made.out / PAGE_FILE).read_text()
    assert "48 images are decided as by PyTorch" in made.said


def test_thresholds_stand_higher_by_the_tolerance(made: Made) -> None:
    """So that the held-out part on the threshold stays below it."""
    export = read_export(made.out)
    assert export.version == made.version.number
    for name, before in made.detector.thresholds.items():
        after, by = export.thresholds[name], TOLERANCES[32] * unit(before)
        assert by > 0
        assert after.threshold == pytest.approx(before.threshold + by, abs=1e-12)
        assert after.review_threshold == pytest.approx(before.review_threshold + by, abs=1e-12)
        assert after.false_alarm_rate == before.false_alarm_rate
        assert after == raised(before, by)


def test_it_is_recorded_and_verified(made: Made) -> None:
    entries = [entry for entry in Record.open(NAME).entries() if entry.kind == EXPORT]
    assert [(entry.version, entry.text_of("export")) for entry in entries][:1] == [
        (made.version.number, "onnxruntime-32")
    ]
    assert entries[0].text_of("files") == made.digest
    ledger = Ledger.find(NAME)
    assert ledger is not None
    assert verify_record(ledger, ledger.read()) == []
    source = MlflowClient(tracking_uri()).get_model_version_download_uri(NAME, made.version.number)
    kept = Path(source.removeprefix("file://")) / "exports" / made.digest / EXPORT_FILE
    before = kept.read_text()
    kept.write_text(before.replace('"resize": 64', '"resize": 65'))
    try:
        (fault,) = verify_record(ledger, ledger.read())
        assert fault.version == made.version.number
        assert "export onnxruntime-32" in fault.what
    finally:
        kept.write_text(before)


def test_the_service_computes_with_it(made: Made) -> None:
    registry = Registry(tracking_uri())
    loaded = registry.load(NAME, int(made.version.number)).detector
    assert loaded.backend.name == "onnxruntime"
    assert loaded.thresholds == read_export(made.out).thresholds
    assert registry.load(NAME, int(made.version.number), Wanted(backend="torch")).detector.backend.name == "torch"
    with pytest.raises(UserError, match="no export for openvino"):
        registry.load(NAME, int(made.version.number), Wanted(backend="openvino"))
    row = made.manifest.split("test")[0]
    image = read_image(made.manifest.root / row.path)
    expected = made.detector.predict([image], [row.category]).scores[0]
    assert loaded.predict([image], [row.category]).scores[0] == pytest.approx(expected, rel=1e-5)


def test_the_folder_decides_on_its_own(made: Made) -> None:
    exported = Registry(tracking_uri()).load(NAME, int(made.version.number)).detector
    for row in made.manifest.split("test")[:3]:
        file = made.manifest.root / row.path
        command = [sys.executable, made.out / "run.py", file.resolve(), "--category", row.category]
        found = json.loads(subprocess.run(command, cwd="/", capture_output=True, text=True, check=True).stdout)
        image = read_image(file)
        prediction = exported.predict([image], [row.category])
        decided = exported.decide(
            float(prediction.scores[0]), prediction.maps[0], prediction.looks[0], image.size, row.category
        )
        assert found["decision"] == decided.decision
        assert found["score"] == pytest.approx(float(prediction.scores[0]), rel=1e-6)
        assert found["threshold"] == decided.threshold.threshold


def test_the_service_refuses_an_export_that_is_not_as_it_was(made: Made) -> None:
    client = MlflowClient(tracking_uri())
    number, tag, digest = made.version.number, f"{EXPORT_TAG}onnxruntime-32", made.digest
    for wrong in ("../../detector", "0" * 64):
        client.set_model_version_tag(NAME, number, tag, wrong)
        try:
            with pytest.raises(UserError, match="export"):
                Registry(tracking_uri()).load(NAME, int(number))
        finally:
            client.set_model_version_tag(NAME, number, tag, digest)


@pytest.mark.parametrize("change", ["version", "category", "file", "missing", "backend"])
def test_an_export_that_does_not_fit_is_a_sentence(made: Made, tmp_path: Path, change: str) -> None:
    folder = shutil.copytree(made.out, tmp_path / "export")
    values = json.loads((folder / EXPORT_FILE).read_text())
    if change == "version":
        values["version"] = "99"
    elif change == "category":
        del values["thresholds"]["metal"]
    elif change == "file":
        (folder / "model_0.onnx").write_bytes((folder / "encoder.onnx").read_bytes())
    elif change == "missing":
        values["files"]["../run.py"] = "0" * 64
    else:
        values["backend"] = "keras"
    (folder / EXPORT_FILE).write_text(json.dumps(values))
    with pytest.raises(UserError, match="export"):
        use_export(made.detector, folder, made.version.number)
    assert made.detector.backend.name == "torch"


def test_one_that_decides_otherwise_is_refused(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A projection that is a little off in the file alone."""
    real = version.write_networks

    def off(detector: Detector, folder: Path, precision: int) -> dict[str, str]:
        real(detector, folder, precision)
        file = folder / "model_0.onnx"
        graph = onnx.load(file)
        largest = max(graph.graph.initializer, key=lambda one: numpy_helper.to_array(one).size)
        largest.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(largest) * 1.5, largest.name))
        onnx.save(graph, file)
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}

    monkeypatch.setattr(version, "write_networks", off)
    before = (made.digest, len(Record.open(NAME).entries()))
    with pytest.raises(UserError, match="refused") as refusal:
        run(arguments(made, out=Path("refused")))
    assert "of the usual distance" in str(refusal.value)
    assert not Path("refused").exists()
    assert (made.digest, len(Record.open(NAME).entries())) == before
    under = f"exports/{made.version.number}-onnxruntime-32-refused"
    report = json.loads(download_run_file(made.version.run_id, f"{under}/{REPORT_FILE}", Path("seen")).read_text())
    assert report["passed"] is False
    assert report["faults"]


def test_pictures_that_one_alone_doubts_are_decided_differently(made: Made, tmp_path: Path) -> None:
    original, exported = copy.copy(made.detector), copy.copy(made.detector)
    original.thresholds = exported.thresholds = {"metal": limits(9.0)}
    rows = images_by_category([row for row in made.manifest.split("test") if row.category == "metal"][:3], ["metal"])
    image = read_image(made.manifest.root / rows["metal"][0].path)
    away = original.predict([image], ["metal"]).looks + np.arange(1e6, 1e6 + 10, dtype=np.float32)[:, None]
    far = Plausibility({"metal": away})
    for doubting, flipped in (([exported], 3), ([exported, original], 0)):
        for detector in doubting:
            detector.plausibility = far
        proof = prove(original, exported, made.manifest.root, rows, "onnxruntime", 32)
        assert [one.flipped for one in proof.compared] == [flipped]
        assert len(proof.faults) == (flipped > 0)
        seen = [[one.decision for one in flip.seen] for flip in proof.flips.clearest]
        assert seen == [["REVIEW", "PASS"]] * flipped


def test_what_cannot_be_exported_is_a_sentence(made: Made, encoder: Encoder) -> None:
    Path("mine").mkdir(exist_ok=True)
    Path("mine/file").write_text("not an export")
    with pytest.raises(UserError, match="--out is mine"):
        run(arguments(made, out=Path("mine")))
    assert Path("mine/file").read_text() == "not an export"
    with pytest.raises(UserError, match="no version 99"):
        run(arguments(made, version="99"))
    with pytest.raises(UserError, match="no TensorRT"):  # before anything is looked up or traced
        run(arguments(made, version="99", backend="tensorrt"))
    detector = guessing(encoder, made.manifest, 2)
    detector.thresholds["leather"] = limits(1.0)
    nothing = registered(detector, made.manifest, made.folder, "leather")
    with pytest.raises(UserError, match="leather"):
        run(arguments(made, version=nothing.number))
    detector.thresholds = {}
    bare = registered(detector, made.manifest, made.folder, "bare")
    with pytest.raises(UserError, match="no thresholds"):
        run(arguments(made, version=bare.number))


def test_a_service_that_trusts_one_key_loads_the_export_that_it_signed(
    made: Made, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    private, public = key_pair(tmp_path, "ours")
    monkeypatch.setenv(SIGNING_KEY, str(private))
    version = registered(guessing(encoder, made.manifest, 3), made.manifest, made.folder, "signed")
    run(arguments(made, version=version.number))
    registry = Registry(tracking_uri())
    loaded = registry.load(NAME, int(version.number), Wanted(verify_key=str(public))).detector
    assert loaded.backend.name == "onnxruntime"
    source = MlflowClient(tracking_uri()).get_model_version_download_uri(NAME, version.number)
    digest = find_version(NAME, version.number).tags[f"{EXPORT_TAG}onnxruntime-32"]
    folder = Path(source.removeprefix("file://")) / SIGNATURE_FOLDER
    shutil.copy(folder / SIGNATURE_FILE, folder / f"{digest}.sig")  # by the same key, of other files
    with pytest.raises(UserError, match="signature does not fit"):
        registry.load(NAME, int(version.number), Wanted(verify_key=str(public)))


def test_cut_off_between_two_writes_nothing_uses_it_and_the_next_call_ends_it(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, ledger = made.digest, Ledger.find(NAME)
    assert ledger is not None

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def copied(_: Detector, folder: Path, bits: int = 32) -> list[Path]:  # tracing them takes ten seconds
        return [Path(shutil.copy(file, folder)) for file in sorted(made.out.glob("*.onnx"))]

    monkeypatch.setattr(Detector, "write_graphs", copied)
    for cut_off in ("keep_export", "note_export", "point_to_export"):
        with monkeypatch.context() as patch:
            patch.setattr(version, cut_off, stop)
            with pytest.raises(KeyboardInterrupt):
                run(arguments(made, out=Path("cut-off")))
        assert not Path("cut-off").exists()
        assert made.digest == before
        assert verify_record(ledger, ledger.read()) == []
    assert Registry(tracking_uri()).load(NAME, int(made.version.number)).detector.backend.name == "onnxruntime"
    run(arguments(made, out=Path("again")))
    assert made.digest == folder_digest(Path("again")) != before
    assert verify_record(ledger, ledger.read()) == []


def test_a_version_without_a_list_of_images_cannot_be_proven(made: Made, encoder: Encoder) -> None:
    """As an imported one; the gate's way out, --force, is no way to a proof."""
    imported = registered(guessing(encoder, made.manifest, 4), None, made.folder, "imported")
    with pytest.raises(UserError, match="nothing can be proven") as refusal:
        run(arguments(made, version=imported.number))
    assert "--force" not in str(refusal.value)
