"""The data gate: each planted fault is found and shown, a clean tree passes, an error stops the pipeline."""

import base64
import io
import json
import re
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance

from inpformer.errors import UserError
from inpformer.images.deep import WHITE
from inpformer.judging.parts import parts_of
from inpformer.judging.settings import CalibrationSettings
from pipelines.gate import checks
from pipelines.gate import inspect as gate
from pipelines.gate.__main__ import main
from pipelines.gate.finding import CHECKS, Finding
from pipelines.gate.linked import Linked
from pipelines.gate.log import log_gate
from pipelines.gate.look import look_at_all
from pipelines.gate.similar import near_duplicates
from pipelines.gate.suspects import Memory
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import Manifest, Row, write_manifest
from pipelines.platform.runs import Run
from tests.conftest import SHARED_DATA
from tests.images.deep_files import png

PROMISE = CalibrationSettings(false_alarm_rate=0.3)  # 3 held-out images keep it


def plate(seed: int) -> Image.Image:
    """A ring on a grainy plate, each a little different."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(0, 12, (6, 6)).astype(np.float32)
    light = np.asarray(Image.fromarray(waves).resize((96, 96), Image.Resampling.BICUBIC))
    grain = 140 + light + rng.normal(0, 4, (96, 96))
    image = Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8)).convert("RGB")
    x, y = (int(v) for v in rng.integers(-2, 3, 2))
    ImageDraw.Draw(image).ellipse((24 + x, 24 + y, 72 + x, 72 + y), outline=(60, 60, 70), width=6)
    return image


def save(image: Image.Image, file: Path, **options: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, **options)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A clean tree: forty good training images of plates, four good test images, two with a dent and its mask."""
    root = tmp_path / "data"
    for number in range(40):
        save(plate(number), root / f"plate/train/good/{number:02d}.png")
    for number in range(4):
        save(plate(100 + number), root / f"plate/test/good/{number}.png")
    mask = np.zeros((96, 96), np.uint8)
    mask[40:50, 40:50] = 255
    for number in range(2):
        save(plate(200 + number), root / f"plate/test/dent/{number}.png")
        save(Image.fromarray(mask), root / f"plate/ground_truth/dent/{number}_mask.png")
    return root


def manifest_of(root: Path) -> Manifest:
    return build_manifest(root, ManifestSettings("unused"))


def found(root: Path, check: str) -> list[Finding]:
    others = tuple(name for name in CHECKS if name != check)
    return gate.inspect(manifest_of(root), gate.GateSettings(others), PROMISE, WHITE)[0]


def first(root: Path, split: str) -> Path:
    """A training image of the tree that the manifest puts into train or val."""
    return root / manifest_of(root).split(split)[0].path


def test_a_clean_tree_has_no_findings(data: Path) -> None:
    assert gate.inspect(manifest_of(data), gate.GateSettings(), PROMISE, WHITE) == ([], Linked(True))


def test_a_training_image_among_the_test_images_is_an_error(data: Path) -> None:
    shutil.copy(data / "plate/train/good/07.png", data / "plate/test/good/copy.png")
    (finding,) = found(data, "duplicates")
    assert (finding.severity, set(finding.paths)) == (
        "error",
        {"plate/train/good/07.png", "plate/test/good/copy.png"},
    )
    assert found(data, "near_duplicates") == []  # said once


def test_one_picture_both_good_and_defective_is_an_error(data: Path) -> None:
    shutil.copy(data / "plate/test/dent/0.png", data / "plate/test/good/9.png")
    (finding,) = found(data, "duplicates")
    assert (finding.severity, finding.text) == ("error", "one picture is filed as good and as defective")


def test_a_copy_on_one_side_is_a_warning(data: Path) -> None:
    shutil.copy(data / "plate/train/good/07.png", data / "plate/train/good/copy.png")
    (finding,) = found(data, "duplicates")
    assert (finding.severity, finding.text) == ("warning", "one picture is there 2 times")


@pytest.mark.parametrize(
    "change",
    [
        lambda image: ImageEnhance.Brightness(image).enhance(1.3),
        lambda image: image.resize((48, 48)),
        lambda image: image.convert("L"),
    ],
    ids=["brighter", "smaller", "grey"],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_test_image_of_a_training_part_is_found(
    data: Path, split: str, change: Callable[[Image.Image], Image.Image]
) -> None:
    original = first(data, split)
    save(change(Image.open(original)), data / "plate/test/good/other.jpg", quality=80)
    (finding,) = found(data, "near_duplicates")
    assert finding.severity == "warning"
    assert finding.paths == ("plate/test/good/other.jpg", original.relative_to(data).as_posix())


def test_masks_that_mark_next_to_nothing_are_listed(data: Path) -> None:
    truth = data / "plate/ground_truth/dent"
    tiny = np.zeros((300, 300), np.uint8)
    tiny[5, 5:10] = 255  # 5 pixels of 300×300 are 3.6 of 256×256
    save(plate(300).resize((300, 300)), data / "plate/test/dent/1.png")
    save(Image.fromarray(tiny), truth / "1_mask.png")
    save(Image.new("L", (96, 96)), truth / "0_mask.png")
    empty, small = found(data, "masks")
    assert (empty.paths, empty.text) == (
        ("plate/test/dent/0.png",),
        "1 picture is defective, without a single pixel marked",
    )
    assert small.paths == ("plate/test/dent/1.png",)
    tiny[5, 10] = 255  # 6 are 4.4
    save(Image.fromarray(tiny), truth / "1_mask.png")
    assert len(found(data, "masks")) == 1


def test_a_mask_that_marks_nearly_everything_is_listed(data: Path) -> None:
    mask = np.full((96, 96), 255, np.uint8)
    mask[:9] = 0  # 90.6 % are marked
    save(Image.fromarray(mask), data / "plate/ground_truth/dent/1_mask.png")
    (finding,) = found(data, "masks")
    assert (finding.severity, finding.paths) == ("warning", ("plate/test/dent/1.png",))
    assert finding.text == "1 picture is defective, with more than 90% of it marked: the mask may be inverted"
    mask[9] = 0  # 89.6 %
    save(Image.fromarray(mask), data / "plate/ground_truth/dent/1_mask.png")
    assert found(data, "masks") == []


def test_broken_notes_on_orientation_count_as_upright(data: Path) -> None:
    entry = struct.pack("<HHI4s", 0x112, 2, 4, b"top")
    text = b"Exif\0\0II" + struct.pack("<HIH", 42, 8, 1) + entry + bytes(4)
    save(plate(306), data / "plate/train/good/text.jpg", exif=text)
    save(plate(307), data / "plate/train/good/broken.png", exif=b"no EXIF at all")
    looks = look_at_all(manifest_of(data), WHITE)
    assert [looks[f"plate/train/good/{name}"].orientation for name in ("text.jpg", "broken.png")] == [1, 1]


def test_a_defect_among_the_good_images_is_suspected(data: Path) -> None:
    scratched, spotted = plate(400), plate(401)
    ImageDraw.Draw(scratched).line((30, 80, 60, 88), fill=(250, 240, 90), width=4)
    ImageDraw.Draw(spotted).ellipse((78, 10, 88, 20), fill=(20, 20, 90))
    save(scratched, data / "plate/train/good/scratched.png")
    save(spotted, data / "plate/train/good/spotted.png")
    suspected = found(data, "suspects")
    assert {Path(f.paths[0]).name for f in suspected} == {"scratched.png", "spotted.png"}
    assert {f.severity for f in suspected} == {"warning"}


def test_an_image_is_never_held_against_itself() -> None:
    tokens = torch.zeros(5, 4, 3)
    tokens[1:] += torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    memory = Memory(tokens)
    scores = np.array([memory.score(image, number) for number, image in enumerate(tokens)])
    np.testing.assert_allclose(scores[1:], 0, atol=1e-2)
    assert scores[0] > 1


def test_files_unlike_the_others_are_named(data: Path) -> None:
    good = data / "plate/train/good"
    turned = Image.Exif()
    turned[0x112] = 6
    for name, image in {
        "alpha.png": plate(300).convert("RGBA"),
        "print.jpg": plate(301).convert("CMYK"),
        "palette.png": plate(302).convert("P"),
        "grey.png": plate(303).convert("L"),
        "wide.png": plate(304).resize((200, 96)),
        "large.png": plate(305).resize((400, 400)),
    }.items():
        save(image, good / name)
    save(plate(306), good / "turned.jpg", exif=turned)
    findings = found(data, "formats")
    assert {f.severity for f in findings} == {"warning"}
    words = ("transparency", "CMYK", "palette", "EXIF", "grey among", "wider in shape", "larger a side")
    names = ("alpha.png", "print.jpg", "palette.png", "turned.jpg", "grey.png", "wide.png", "large.png")
    assert len(findings) == len(words)
    for word, name in zip(words, names, strict=True):
        (finding,) = [f for f in findings if word in f.text]
        assert finding.paths[0] == f"plate/train/good/{name}"


def test_too_few_held_out_images_says_how_many_more(data: Path) -> None:
    manifest = manifest_of(data)
    others = gate.GateSettings(tuple(name for name in CHECKS if name != "held_out"))
    ((finding,), _) = gate.inspect(manifest, others, CalibrationSettings(0.01), WHITE)
    assert finding.text.endswith("8 good images are held out, a false-alarm rate of 0.01 takes 99: 91 more are needed")
    assert gate.inspect(manifest, others, CalibrationSettings(1 / 9), WHITE)[0] == []


def test_with_folds_all_good_images_but_the_tests_count(data: Path) -> None:
    manifest = manifest_of(data)
    others = gate.GateSettings(tuple(name for name in CHECKS if name != "held_out"))
    good = sum(row.split != "test" and not row.label for row in manifest.rows)
    assert gate.inspect(manifest, others, CalibrationSettings(2 / (good + 1), folds=good), WHITE)[0] == []
    ((finding,), _) = gate.inspect(manifest, others, CalibrationSettings(0.01, folds=300), WHITE)
    assert f"{good} good images are there for 300 folds" in finding.text
    assert finding.text.endswith(f"takes 199: {199 - good} more are needed")


def run_gate(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: str) -> tuple[Path, Path]:
    """Runs the stage as its command does; report folder and findings file."""
    write_manifest(manifest_of(root), tmp_path / "manifest.parquet")
    (tmp_path / "params.yaml").write_text(params)
    monkeypatch.chdir(tmp_path)
    arguments = ["--manifest", "manifest.parquet", "--report", "reports/gate", "--findings", "reports/gate.json"]
    arguments += ["--linked", "artifacts/linked.json"]
    monkeypatch.setattr(sys, "argv", ["gate", *arguments])
    main()
    return tmp_path / "reports/gate", tmp_path / "reports/gate.json"


@pytest.mark.parametrize(
    ("most", "white", "right"),
    [
        (4095, 65535, 4095),
        (4000, 65535, 4095),
        (1023, 65535, 1023),
        (1024, 65535, 4095),
        (16383, 65535, 16383),
        (16384, 65535, None),  # a quarter
        (65535, 65535, None),
        (4095, 4095, None),
        (1024, 4095, None),
        (1000, 4095, 1023),
        (200, 1023, None),  # there is none smaller
        (4096, 4095, 16383),  # what is brighter is cut off
        (60000, 4095, 65535),
        (4095, 4000, 4095),
    ],
)
def test_deep_pictures_in_which_white_seems_wrong_are_one_warning_with_the_right_one(
    most: int, white: int, right: int | None
) -> None:
    rows = [of_deep(f"train/{n}", largest=largest) for n, largest in enumerate((most // 2, most, most // 3, 0))]
    rows += [of_deep("test/good", "test", largest=65535), of_deep("test/dent", "test", 1, largest=65535)]
    rows += [
        of_deep("train/dent", label=1, largest=65535),
        of_deep("bolt", category="bolt"),
    ]  # nothing is read of these
    findings = checks.depth(rows, white)
    if right is None:
        assert findings == []
        return
    (finding,) = findings
    assert (finding.severity, finding.category, finding.paths) == ("warning", "plate", ("train/1",))
    assert re.findall(r"\d+", finding.text) == ["3", "16", str(most), str(white), str(right)]


def of_deep(path: str, split: str = "train", label: int = 0, category: str = "plate", largest: int = 0) -> Row:
    """An image whose largest value is that, 0 for one of 8 bits a channel."""
    return Row(path, category, split, label, "", [], 127, 0, 9, 9, path, "", largest)


def test_each_category_is_held_against_white_by_itself() -> None:
    rows = [of_deep("a", category="bolt", largest=65535), of_deep("b", largest=4095), of_deep("c", category="nut")]
    assert [one.category for one in checks.depth(rows, WHITE)] == ["plate"]


def test_the_report_shows_deep_pictures_by_the_white_of_params(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        file = data / f"plate/train/good/{number:02}.png"
        with Image.open(file) as image:
            grey = np.asarray(image.convert("L"), np.uint16)
        file.write_bytes(png(grey * 16 + 15))  # 12 bits
    rate, ignore = "{false_alarm_rate: 0.3}", "[suspects, near_duplicates, held_out, formats, masks]"
    run_gate(data, tmp_path, monkeypatch, f"{{calibrate: {rate}, gate: {{ignore: {ignore}}}}}")
    (dark,) = thumbnails(tmp_path)
    assert np.asarray(dark).max() < 20
    (finding,) = json.loads((tmp_path / "reports/gate.json").read_text())["findings"]
    assert "4095" in finding["text"]
    run_gate(
        data,
        tmp_path,
        monkeypatch,
        f"{{features: {{encoder: {{white: 2047}}}}, calibrate: {rate}, gate: {{ignore: {ignore}}}}}",
    )
    (bright,) = thumbnails(tmp_path)
    assert np.asarray(bright).max() > 200
    run_gate(
        data,
        tmp_path,
        monkeypatch,
        f"{{features: {{encoder: {{white: 4095}}}}, calibrate: {rate}, gate: {{ignore: {ignore}}}}}",
    )
    assert thumbnails(tmp_path) == []


def thumbnails(folder: Path) -> list[Image.Image]:
    """Those of the report."""
    page = (folder / "reports/gate/index.html").read_text()
    found = re.findall(r'<img src="data:image/jpeg;base64,([A-Za-z0-9+/=]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in found]


def test_errors_stop_the_pipeline_with_a_report(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = "a<b>&'quote'.png"
    shutil.copy(data / "plate/train/good/07.png", data / "plate/test/good" / odd)
    with pytest.raises(UserError, match=r"found 1 error: look at reports/gate/index\.html") as error:
        run_gate(data, tmp_path, monkeypatch, "{calibrate: {false_alarm_rate: 0.01}, gate: {ignore: [suspects]}}")
    assert str(error.value).count(".") == 2  # one sentence, and the file's ending
    written = json.loads((tmp_path / "reports/gate.json").read_text())
    nothing = {"error": 0, "warning": 0}
    assert written["counts"] == {
        "duplicates": {"error": 1, "warning": 0},
        "near_duplicates": nothing,
        "masks": nothing,
        "formats": nothing,
        "depth": nothing,
        "held_out": {"error": 0, "warning": 1},
    }
    assert [f["check"] for f in written["findings"]] == ["duplicates", "held_out"]
    page = (tmp_path / "reports/gate/index.html").read_text()
    assert "a&lt;b&gt;&amp;&#x27;quote&#x27;.png" in page
    assert "<b>&" not in page
    assert len(re.findall(r'<img src="data:image/jpeg;base64,[A-Za-z0-9+/=]{500,}"', page)) == 2
    assert "not looked at (gate.ignore" in page
    assert not re.search(r"<script|https?:", page)


def test_warnings_let_the_pipeline_go_on_and_reach_mlflow(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = "{calibrate: {false_alarm_rate: 0.01}, gate: {ignore: [suspects]}}"
    report, findings = run_gate(data, tmp_path, monkeypatch, params)
    first_bytes = findings.read_bytes(), (report / "index.html").read_bytes()
    run_gate(data, tmp_path, monkeypatch, params)
    assert (findings.read_bytes(), (report / "index.html").read_bytes()) == first_bytes
    run = Run.open("key", "gate", {}, {})
    log_gate(run, findings)
    logged = run._client.get_run(run.run_id).data.metrics
    assert (logged["gate.held_out"], logged["gate.duplicates"]) == (1, 0)
    assert "gate.suspects" not in logged


def test_an_unknown_check_cannot_be_ignored() -> None:
    with pytest.raises(UserError, match=r"^ignore is 'masts': it must be among duplicates, near_duplicates"):
        gate.GateSettings(("masts",))


@pytest.mark.shared
def test_exposures_of_one_magnetic_tile_are_found() -> None:
    manifest = manifest_of(SHARED_DATA / "magnetic_tile")
    frame = {row.path: int(row.path.split("_num_")[1].removesuffix(".jpg")) for row in manifest.rows}
    (*given, cut, among_val, among_test), linked = near_duplicates(list(manifest.rows), look_at_all(manifest, WHITE))
    pairs = list(zip(cut.paths[::2], cut.paths[1::2], strict=True))
    near = {
        held.path
        for held in manifest.split("val")
        if any(abs(frame[held.path] - frame[row.path]) <= 100 for row in manifest.split("train"))
    }
    held = {row.path for row in manifest.split("val")}
    reported = {a for a, _ in pairs}
    assert reported <= held
    assert len(held) == 152
    assert len(near & reported) >= 0.98 * len(near) > 140
    # All 17 across the given split show one tile twice, some of them thousands of frames apart (looked at).
    across = {f.paths[0] for f in given}
    assert len(across) == 17
    assert {"test/break/exp4_num_116999.jpg", "test/good/exp4_num_10642.jpg"} <= across
    far = [(a, b) for a, b in pairs if abs(frame[a] - frame[b]) > 300]
    assert len(far) <= 3
    # Tiles follow each other by thousands of frames, exposures of one by tens: so many parts there are, and are found.
    for split, finding in (("val", among_val), ("test", among_test)):
        good = [row.path for row in manifest.split(split) if not row.label]
        frames = np.sort([frame[path] for path in good])
        true = 1 + int((np.diff(frames) > 100).sum())
        parts = len(set(parts_of([""] * len(good), good, [linked.group(path) for path in good]).tolist()))
        assert abs(parts - true) <= 0.2 * true < 0.2 * 0.7 * len(good)
        assert set(finding.paths) == {path for path in good if linked.group(path)}


@pytest.mark.shared
def test_empty_masks_of_the_magnetic_tiles_are_found() -> None:
    empty, tiny = found(SHARED_DATA / "magnetic_tile", "masks")
    assert {Path(path).stem for path in empty.paths} == {
        "exp3_num_45042",
        "exp4_num_124690",
        "exp4_num_352527",
        "exp4_num_45057",
    }
    assert len(tiny.paths) == 2


@pytest.mark.parametrize(
    ("source", "target", "splits"),
    [
        ("train/good/07.png", "validation/good/copy.png", {"train", "val"}),
        ("validation/good/0.png", "test/good/copy.png", {"val", "test"}),
        ("train/good/07.png", "test/good/copy.png", {"train", "test"}),
    ],
)
def test_a_copy_in_two_splits_is_an_error(data: Path, source: str, target: str, splits: set[str]) -> None:
    for number in range(3):
        save(plate(500 + number), data / f"plate/validation/good/{number}.png")
    assert found(data, "duplicates") == []
    shutil.copy(data / "plate" / source, data / "plate" / target)
    (finding,) = found(data, "duplicates")
    assert (finding.severity, set(finding.paths)) == ("error", {f"plate/{source}", f"plate/{target}"})
    assert {row.split for row in manifest_of(data).rows if row.path in finding.paths} == splits


def test_a_labelled_defect_that_is_searched_by_and_tested_with_is_an_error(data: Path) -> None:
    lines = ["path,split,defect", *(f"{p.relative_to(data)},," for p in sorted(data.glob("plate/train/good/*")))]
    lines += ["plate/test/good/0.png,test,", "plate/test/dent/0.png,test,dent", "plate/test/dent/1.png,val,dent"]
    (data / "samples.csv").write_text("\n".join(lines))
    assert found(data, "duplicates") == []
    shutil.copy(data / "plate/test/dent/0.png", data / "plate/test/dent/1.png")
    (finding,) = found(data, "duplicates")
    assert (finding.severity, set(finding.paths)) == ("error", {"plate/test/dent/0.png", "plate/test/dent/1.png"})


def test_copies_that_the_pipeline_itself_splits_are_no_error(data: Path) -> None:
    for file in list((data / "plate/train/good").iterdir()):
        shutil.copy(file, file.with_name(f"copy{file.name}"))
    assert {finding.severity for finding in found(data, "duplicates")} == {"warning"}


@pytest.mark.parametrize(("images", "few"), [(3, True), (19, True), (20, False)])
def test_very_few_good_images_are_a_warning_even_if_the_promise_is_kept(data: Path, images: int, few: bool) -> None:
    for file in sorted((data / "plate/train/good").iterdir())[images:]:
        file.unlink()
    manifest = manifest_of(data)
    others = gate.GateSettings(tuple(name for name in CHECKS if name != "held_out"))
    findings, _ = gate.inspect(manifest, others, CalibrationSettings(0.5), WHITE)
    assert [(f.severity, f.category) for f in findings] == [("warning", "plate")] * few
    if few:
        assert f"add {20 - images} good images or more" in findings[0].text


def test_few_images_and_a_promise_that_is_not_kept_are_one_warning(data: Path) -> None:
    for file in sorted((data / "plate/train/good").iterdir())[3:]:
        file.unlink()
    (finding,) = found(data, "held_out")
    assert "add 17 good images" in finding.text
    assert finding.text.endswith("takes 3: 2 more are needed")
