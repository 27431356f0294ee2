"""Exports of 8 bits: thresholds made as calibrate makes them, of their own scores; measured, refused where worse."""

import copy
import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from inpformer.backends.graphs import ENCODER_GRAPH
from inpformer.backends.names import EXPORT_TAG, OPENVINO
from inpformer.backends.quantised import quantise
from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from inpformer.images.transform import read_image
from inpformer.judging import exported
from inpformer.judging.detector import Detector
from inpformer.judging.exported import read_export, use_export
from pipelines.audit.verify import verify_record
from pipelines.calibrate.held_out import GoodImage, scores_of, thresholds
from pipelines.calibrate.judge import InProcess
from pipelines.export import ranges, version
from pipelines.export.version import PAGE_FILE, REPORT_FILE, run
from pipelines.platform.ledger import Ledger
from pipelines.platform.registry import Version, find_version, set_version_tags
from pipelines.platform.runs import download_run_file
from pipelines.platform.tracking import tracking_uri
from pipelines.promote.images import RECALIBRATED_TAG
from pipelines.record.record import Record
from serving.fetched import Wanted
from serving.registry import Registry
from tests.conftest import INP_FORMER, MULTI, OWN, untrained
from tests.export.conftest import Made, arguments
from tests.promote.products import ASKED, NAME, TEST, guessing, looking, registered

pytestmark = pytest.mark.usefixtures("registry")
OUT, GRAPHS = Path("eight"), Path("graphs")
TAG = f"{EXPORT_TAG}onnxruntime-8"
# Four held-out parts make loose thresholds, and ten test parts coarse rates.
PARAMS = "promote: {replicates: 1000, category_margin: 0.5, margins: {recall: 0.3, specificity: 0.3}}"


@pytest.fixture(scope="module")
def eight(made: Made, encoder: Encoder) -> tuple[Version, Detector]:
    """A version that has learnt something, whose export lies in OUT, and its detector."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        detector = looking(encoder, made.manifest, made.folder / "store")
        own = registered(detector, made.manifest, made.folder, "looking")
        Path("params.yaml").write_text(PARAMS)
        real = Detector.write_graphs

        def kept(self: Detector, folder: Path, bits: int = 32) -> list[Path]:
            files = real(self, folder, bits)
            shutil.copytree(folder, GRAPHS)
            return files

        patch.setattr(Detector, "write_graphs", kept)
        run(arguments(made, version=own.number, precision=8, out=OUT))
    return own, detector


@pytest.fixture
def traced(eight: tuple[Version, Detector], monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks in 32 bit are taken from the first export: tracing them takes ten seconds."""

    def copied(_: Detector, folder: Path, bits: int = 32) -> list[Path]:
        assert bits == 32
        return [Path(shutil.copy(file, folder)) for file in sorted(GRAPHS.iterdir())]

    monkeypatch.setattr(Detector, "write_graphs", copied)


def test_its_thresholds_are_those_of_its_own_scores(made: Made, eight: tuple[Version, Detector]) -> None:
    own, detector = eight
    computing = copy.copy(detector)
    use_export(computing, OUT, own.number)
    good = [GoodImage(made.manifest.root / r.path, r.category, r.sha256, r.part) for r in made.manifest.held_out]
    assert read_export(OUT).thresholds == thresholds(good, scores_of(InProcess(computing), good)[0], ASKED, "checked")
    report = json.loads((OUT / REPORT_FILE).read_text())
    for name, before in detector.thresholds.items():
        after = computing.thresholds[name]
        assert after.threshold != before.threshold
        assert after.threshold == pytest.approx(before.threshold, rel=0.2)
        assert after.false_alarm_rate == before.false_alarm_rate
        assert report["thresholds"][name]["threshold"] == after.threshold
        assert "at most 20.00%" in report["thresholds"][name]["promise"]


def test_the_report_has_both_measured_on_the_same_images(eight: tuple[Version, Detector]) -> None:
    report = json.loads((OUT / REPORT_FILE).read_text())
    assert report["passed"] is True
    for name, one in report["categories"].items():
        assert one["images"] == 2 * TEST, name
        assert set(one["metrics"]) >= {"miss_rate", "false_alarm_rate", "image_auroc", "pixel_ap", "aupro"}
        assert one["metrics"]["image_auroc"]["export"] == pytest.approx(one["metrics"]["image_auroc"]["torch"], abs=0.1)
    flips = report["decided_differently"]
    assert all(one["challenger"]["threshold"] != one["other"]["threshold"] for one in flips)
    page = (OUT / PAGE_FILE).read_text()
    assert page.count('class="finding ') >= len(flips)
    assert "false alarms at most 20.00%" in page


def test_the_encoder_alone_is_in_8_bit(eight: tuple[Version, Detector]) -> None:
    kinds = {node.op_type for node in onnx.load(OUT / "model_0.onnx").graph.node}
    assert "QuantizeLinear" not in kinds
    graph = onnx.load(OUT / ENCODER_GRAPH).graph
    weights = [numpy_helper.to_array(one) for one in graph.initializer if one.data_type == onnx.TensorProto.INT8]
    large = [one for one in weights if one.size > 1000]
    assert large
    assert max(int(np.abs(one).max()) for one in large) <= 64  # 7 bit: no processor cuts a sum off


def test_openvino_reads_it_too(made: Made, eight: tuple[Version, Detector]) -> None:
    _, detector = eight
    row = made.manifest.split("test")[0]
    image = read_image(made.manifest.root / row.path)
    found = []
    for backend in ("onnxruntime", OPENVINO):
        computing = copy.copy(detector)
        computing.run_in(backend, OUT, precision=8)
        found.append(computing.predict([image], [row.category]).scores[0])
    in_torch = detector.predict([image], [row.category]).scores[0]
    assert found[0] == pytest.approx(found[1], rel=0.02)
    assert found[0] != pytest.approx(in_torch, rel=1e-4)


def test_the_service_takes_it_where_it_is_asked_for(made: Made, eight: tuple[Version, Detector]) -> None:
    own, _ = eight
    registry = Registry(tracking_uri())
    assert registry.load(NAME, int(own.number)).detector.backend.name == "torch"
    loaded = registry.load(NAME, int(own.number), Wanted(precision=8)).detector
    assert (loaded.backend.name, loaded.backend.precision) == ("onnxruntime", 8)
    assert loaded.thresholds == read_export(OUT).thresholds
    with pytest.raises(UserError, match="no export for onnxruntime of 16 bits"):
        registry.load(NAME, int(own.number), Wanted(precision=16))
    with pytest.raises(UserError, match="torch computes in 32"):
        registry.load(NAME, int(own.number), Wanted(backend="torch", precision=8))


@pytest.mark.usefixtures("traced")
def test_it_is_verified_and_one_that_is_cut_off_leaves_nothing(
    made: Made, eight: tuple[Version, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, _ = eight
    ledger = Ledger.find(NAME)
    assert ledger is not None
    before = find_version(NAME, own.number).tags[TAG], len(Record.open(NAME).entries())

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(version, "measure", stop)
    with pytest.raises(KeyboardInterrupt):
        run(arguments(made, version=own.number, precision=8, out=Path("cut")))
    assert not Path("cut").exists()
    assert (find_version(NAME, own.number).tags[TAG], len(Record.open(NAME).entries())) == before
    assert verify_record(ledger, ledger.read()) == []
    kept = next(Path("mlartifacts").rglob(f"{before[0]}/{ENCODER_GRAPH}"))
    content = kept.read_bytes()
    kept.write_bytes(content[:-1])
    (fault,) = verify_record(ledger, ledger.read())
    kept.write_bytes(content)
    assert fault.version == own.number
    assert "export onnxruntime-8" in fault.what


@pytest.mark.usefixtures("traced")
def test_one_that_is_worse_is_refused(
    made: Made, eight: tuple[Version, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ranges are those of dark pictures: what is brighter is cut off."""
    own, _ = eight
    before = find_version(NAME, own.number).tags[TAG]

    def in_the_dark(file: Path, pictures: Iterable[NDArray[np.uint8]]) -> None:
        quantise(file, (picture // 16 for picture in pictures))

    monkeypatch.setattr(exported, "quantise", in_the_dark)
    with pytest.raises(UserError, match=r"(image AUROC|P-AP|AUPRO) .* falls by more than"):
        run(arguments(made, version=own.number, precision=8, out=Path("worse")))
    assert not Path("worse").exists()
    assert find_version(NAME, own.number).tags[TAG] == before
    under = f"exports/{own.number}-onnxruntime-8-refused"
    report = json.loads(download_run_file(own.run_id, f"{under}/{REPORT_FILE}", Path("seen-8")).read_text())
    assert report["passed"] is False


def test_ranges_are_set_by_good_training_images(made: Made) -> None:
    rows = ranges.chosen(made.manifest)
    assert {row.split for row in rows} == {"train"}
    assert {row.category for row in rows} == set(made.manifest.categories)
    assert len(rows) <= ranges.PICTURES
    with pytest.raises(UserError, match="training images"):
        ranges.chosen(replace(made.manifest, rows=[row for row in made.manifest.rows if row.split != "train"]))


def test_thresholds_that_cannot_be_made_again_are_a_sentence(made: Made, encoder: Encoder) -> None:
    detector = guessing(encoder, made.manifest, 5)
    other = {name: replace(one, confidence=0.9) for name, one in detector.thresholds.items()}
    detector.thresholds = other
    strange = registered(detector, made.manifest, made.folder, "strange")
    with pytest.raises(UserError, match="are not those that"):
        run(arguments(made, version=strange.number, precision=8))
    folds = Detector(encoder, INP_FORMER, OWN, {}, MULTI, other, folds={"": [untrained(encoder, n) for n in (1, 2)]})
    of_folds = registered(folds, made.manifest, made.folder, "folds")
    with pytest.raises(UserError, match="a model a fold"):
        run(arguments(made, version=of_folds.number, precision=8))
    recalibrated = registered(guessing(encoder, made.manifest, 6), None, made.folder, "recalibrated")
    set_version_tags(NAME, recalibrated.number, {RECALIBRATED_TAG: made.version.number})
    with pytest.raises(UserError, match="was recalibrated"):
        run(arguments(made, version=recalibrated.number, precision=8))
