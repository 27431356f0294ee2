"""Which version decided on an image, by what, and what it was made of: from the evidence, or asked now."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from inpformer.digests import folder_digest
from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from inpformer.judging.plausibility import Plausibility
from pipelines.audit import __main__ as command
from pipelines.calibrate.scores_table import HeldOutScore, write_scores
from pipelines.manifest.table import Manifest, write_manifest
from pipelines.platform.registry import Evidence, register
from pipelines.platform.runs import Run
from pipelines.record.steps import REGISTRATION
from pipelines.record.versions import note_version
from tests.conftest import limits
from tests.platform.test_registry import NAME
from tests.platform.test_registry import registry as registry
from tests.promote.weighing import promoted


@pytest.fixture
def decided(registry: MlflowClient, detector: Detector, manifest: Manifest, tmp_path: Path) -> Manifest:
    """Two versions with evidence, of other thresholds; the second is champion."""
    (tmp_path / "params.yaml").write_text("{}")
    test = manifest.split("test")
    for number, threshold in (("1", 0.5), ("2", 0.75)):
        folder = tmp_path / number
        detector.thresholds["nut"] = limits(threshold)
        if number == "2":  # it knows what a bolt looks like
            bolts = [
                Image.fromarray(np.random.default_rng(n).integers(0, 256, (50, 60, 3), np.uint8)) for n in range(10)
            ]
            detector.plausibility = Plausibility.of({"bolt": detector.predict(bolts, ["bolt"] * len(bolts)).looks})
        detector.save(folder / "detector")
        (folder / "evidence").mkdir()
        write_manifest(manifest, folder / "evidence/manifest.parquet")
        with (folder / "evidence/scores.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "category", "score"))
            writer.writerows((row.path, row.category, 0.6) for row in test)
        held_out = HeldOutScore("nut/held.png", "nut", "part 7", "a" * 64, 0.1, "cpu")
        write_scores([held_out], folder / "evidence/held_out.csv")
        made_of = Evidence("", {"git.commit": f"commit {number}", "data.digest": "data"}, folder / "evidence")
        register(Run.open(number, "a run", {}, {}), folder / "detector", NAME, made_of)
        note_version(NAME, number, REGISTRATION, folder_digest(folder / "detector"))
        promoted(number)
    registry.set_model_version_tag(NAME, "2", "git.commit", "another")  # the record knows better
    return manifest


def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> dict:
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["audit", "decision", *map(str, arguments)])
    command.main()
    return json.loads(capsys.readouterr().out)


def test_an_empty_name_is_not_every_image_without_a_part(decided: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted in ("", " "):
        monkeypatch.setattr("sys.argv", ["audit", "decision", wanted])
        with pytest.raises(UserError, match="the image is empty"):
            command.main()


def test_an_image_of_the_evidence_is_found_by_file_digest_path_and_part(
    decided: Manifest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = decided.split("test")[0]
    for wanted in (decided.root / row.path, row.sha256, row.path):
        answer = ask(capsys, monkeypatch, wanted)
        (by,) = answer["decided"]
        (image,) = by["images"]
        assert (by["version"], by["commit"], by["data"], by["as_registered"]) == ("2", "commit 2", "data", True)
        assert (image["path"], image["score"], image["threshold"]) == (row.path, 0.6, 0.75)
        assert image["decision"] in ("PASS", "REVIEW")
        assert "evidence (test)" in image["score_from"]
    (by,) = ask(capsys, monkeypatch, "part 7")["decided"]
    assert [(image["path"], image["score"]) for image in by["images"]] == [("nut/held.png", 0.1)]


def test_the_version_is_that_of_the_time(
    decided: Manifest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.record.record import Record

    first = next(entry for entry in Record.open(NAME).entries() if entry.kind == "promoted")
    (by,) = ask(capsys, monkeypatch, "part 7", "--time", first.time.isoformat())["decided"]
    assert (by["version"], by["commit"], by["images"][0]["threshold"]) == ("1", "commit 1", 0.5)
    with pytest.raises(UserError, match="had no champion at 2020"):
        ask(capsys, monkeypatch, "part 7", "--time", "2020-01-01")


def test_an_image_that_is_new_is_shown_to_the_version(
    decided: Manifest,
    detector: Detector,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (50, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "new.png")
    answer = ask(capsys, monkeypatch, "new.png", "--category", "nut")
    (image,) = answer["decided"][0]["images"]
    with Image.open(tmp_path / "new.png") as picture:
        assert image["score"] == pytest.approx(float(detector.predict([picture], ["nut"]).scores[0]), abs=1e-6)
    assert answer["sha256"] == hashlib.sha256((tmp_path / "new.png").read_bytes()).hexdigest()
    assert "asked now" in image["score_from"]
    assert "doubt" not in image
    Image.new("RGB", (60, 50)).save(tmp_path / "dark.png")
    (dark,) = ask(capsys, monkeypatch, "dark.png", "--category", "bolt")["decided"][0]["images"]
    assert dark["decision"] == "REVIEW"
    assert dark["score"] < dark["review_threshold"]
    assert "not like bolt" in dark["doubt"]
    with pytest.raises(UserError, match=r"--category is None: version 2 knows bolt, nut"):
        ask(capsys, monkeypatch, "new.png")
    with pytest.raises(UserError, match="is no file here, and nothing in the evidence of version 2"):
        ask(capsys, monkeypatch, "nowhere.png", "--category", "nut")


def test_since_says_who_was_champion_and_what_was_done(
    decided: Manifest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["audit", "since", "--time", "2020-01-01"])
    command.main()
    lines = capsys.readouterr().out.splitlines()
    assert "no champion" in lines[0]
    assert len(lines) == 1 + 8
    assert [number for number in range(1, 9) if f"(entry {number})" not in lines[number]] == []
