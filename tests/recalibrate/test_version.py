"""Recalibration in a real MLflow: which images count, which are refused, and what the new version says."""

import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image, ImageEnhance

from inpformer.errors import UserError
from inpformer.judging.calibration import CHECKED, SAID, UNKNOWN
from inpformer.judging.detector import Detector
from inpformer.judging.seen import SeenImages
from pipelines.platform.registry import Evidence, download_detector, register
from pipelines.platform.runs import Run
from pipelines.platform.tracking import tracking_uri
from pipelines.recalibrate import __main__ as recalibrate
from pipelines.recalibrate.version import good_images, part_expression

ROOT = Path(__file__).resolve().parents[2]
Recalibrate = Callable[..., Detector]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with params.yaml and, in line2, three exposures of each of four parts."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    rng = np.random.default_rng(0)
    (tmp_path / "line2").mkdir()
    for part in range(4):
        for exposure in range(3):
            picture = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
            picture.save(tmp_path / f"line2/part{part}_{exposure}.png")
    return tmp_path


@pytest.fixture
def recalibrated(workplace: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch) -> Recalibrate:
    """Registers the detector, recalibrates that version for nut, and gives the new one."""

    def call(*arguments: object, seen: SeenImages | None = None) -> Detector:
        detector.seen = seen
        shutil.rmtree(workplace / "detector", ignore_errors=True)
        detector.save(workplace / "detector")
        run = Run.open("key", "a run", {}, {})
        version = register(run, workplace / "detector", "inpformer", Evidence("a detector", {}))
        command = ["recalibrate", version, "--category", "nut", "--normals", "line2", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        recalibrate.main()
        new = MlflowClient(tracking_uri()).get_model_version_by_alias("inpformer", "challenger")
        assert new.tags["recalibrated.from"] == version
        return Detector.load(download_detector("inpformer", str(new.version), workplace / "fetched"))

    return call


def tags() -> dict[str, str]:
    version = MlflowClient(tracking_uri()).get_model_version_by_alias("inpformer", "challenger")
    return dict(version.tags)


def highest(detector: Detector) -> list[float]:
    """Of the exposures of each part in line2."""
    scores = {f.name: float(detector.predict([Image.open(f)], ["nut"]).scores[0]) for f in Path("line2").iterdir()}
    return sorted(max(score for name, score in scores.items() if name.startswith(f"part{p}")) for p in range(4))


def test_exposures_of_one_part_count_once(recalibrated: Recalibrate, capsys: pytest.CaptureFixture[str]) -> None:
    found = recalibrated("--part", r"part(\d+)_")
    threshold = found.thresholds["nut"]
    assert threshold.scores == pytest.approx(highest(found), abs=1e-6)
    assert threshold.false_alarm_rate == pytest.approx(1 / 5)
    assert (tags()["recalibrated.images"], tags()["recalibrated.parts"]) == ("12", "4")
    assert "12 images of 4 parts" in capsys.readouterr().out


def test_the_data_sets_own_expression_holds_here_too(workplace: Path, recalibrated: Recalibrate) -> None:
    params = yaml.safe_load((workplace / "params.yaml").read_text())
    params["manifest"]["part"] = r"part(\d+)_"
    (workplace / "params.yaml").write_text(yaml.safe_dump(params))
    assert part_expression(None) == r"part(\d+)_"
    assert len(recalibrated().thresholds["nut"].scores) == 4
    assert part_expression("") is None


def test_copies_count_once(workplace: Path, recalibrated: Recalibrate) -> None:
    shutil.copy("line2/part0_0.png", "line2/again.png")
    assert len(recalibrated().thresholds["nut"].scores) == 12


def exposures(count: int) -> None:
    """Of each of the first parts in line2 one picture more, brighter, under another name."""
    for part in range(count):
        with Image.open(f"line2/part{part}_0.png") as picture:
            ImageEnhance.Brightness(picture).enhance(1.1).save(f"line2/again{part}.jpg", quality=95)


def test_near_duplicates_count_once_unless_they_are_not_looked_for(
    workplace: Path, recalibrated: Recalibrate, capsys: pytest.CaptureFixture[str]
) -> None:
    exposures(3)
    assert len(recalibrated().thresholds["nut"].scores) == 12
    assert "15 good images that are 12 independent ones" in capsys.readouterr().out
    params = yaml.safe_load((workplace / "params.yaml").read_text())
    params["gate"]["ignore"] = ["near_duplicates"]
    (workplace / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.rmtree(workplace / "fetched")
    assert len(recalibrated().thresholds["nut"].scores) == 15
    assert "gate.ignore" in capsys.readouterr().out


def test_an_expression_that_fits_nothing_or_is_none_is_refused(workplace: Path) -> None:
    with pytest.raises(UserError, match=r"--part"):
        good_images(Path("line2"), "nut", r"piece(\d+)")
    for wrong in ("part", "("):
        with pytest.raises(UserError, match=r"^--part is "):
            part_expression(wrong)


def test_images_that_were_trained_on_are_refused(workplace: Path, recalibrated: Recalibrate) -> None:
    trained_on = workplace / "line2/part1_0.png"
    seen = SeenImages.of([hashlib.sha256(trained_on.read_bytes()).hexdigest()])
    with pytest.raises(UserError, match=r"line2/part1_0\.png"):
        recalibrated("--unseen", seen=seen)  # saying otherwise does not help
    assert len(MlflowClient(tracking_uri()).search_model_versions("name = 'inpformer'")) == 1
    trained_on.unlink()
    found = recalibrated(seen=seen)
    assert found.thresholds["nut"].unseen == CHECKED
    assert found.seen is not None
    assert len(found.seen) == 1


@pytest.mark.parametrize(("said", "unseen"), [((), UNKNOWN), (("--unseen",), SAID)])
def test_without_a_record_the_user_says_so_or_nothing_is_promised(
    recalibrated: Recalibrate, capsys: pytest.CaptureFixture[str], said: tuple[str, ...], unseen: str
) -> None:
    found = recalibrated(*said)
    assert found.thresholds["nut"].unseen == tags()["recalibrated.unseen"] == unseen
    assert ("--unseen" in capsys.readouterr().out) == (unseen == UNKNOWN)
    assert found.thresholds["bolt"].unseen == UNKNOWN
