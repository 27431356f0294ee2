"""`calibrate.folds` from the features to the service: who is trained without whom, and what is refused."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from demo.data.render import generate
from demo.settings import DemoData
from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from inpformer.images.transform import read_image
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL
from inpformer.judging.seen import BY_ALL, SeenImages
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods.nearest.settings import NearestSettings
from inpformer.training.settings import TrainSettings
from pipelines.calibrate.across import left_out, thresholds_across
from pipelines.calibrate.held_out import GoodImage
from pipelines.calibrate.scores_table import HeldOutScore, read_scores
from pipelines.features.anomalies import AnomalyView, Texture, anomaly_plan, showing
from pipelines.features.index import compute_features, read_index, write_index
from pipelines.features.settings import AnomalySettings, FeatureSettings
from pipelines.gate.linked import Linked, write_linked
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import Manifest, Row, good_rows, read_manifest, write_manifest
from pipelines.platform.pyfunc_model import DetectorModel
from pipelines.platform.registry import Evidence, register
from pipelines.platform.runs import Run
from pipelines.platform.tracking import tracking_uri
from pipelines.register.check import checked
from pipelines.training.checkpoints import FINISHED, open_checkpoints
from pipelines.training.features import training_anomalies, training_features
from pipelines.training.folds import assign_folds, fold_of, train_folds
from pipelines.training.job import Job
from serving.registry import Registry
from tests.evaluate.test_measure import row

ROOT = Path(__file__).resolve().parents[2]
FOLDS, PARTS = 4, 10  # two parts a fold, and two left over
# All tokens are kept, so that an image that was trained on is as good as no distance away.
OWN = {"grid": 4, "channels": 32, "coreset_share": 1.0}
CATEGORIES = ("board", "fabric", "metal")
LINKED = ("metal/train/good/000.png", "metal/train/good/001.png")  # as if they showed one part


@dataclass(frozen=True)
class Place:
    """A working directory in which features are computed; `call` runs a stage's command in it."""

    folder: Path

    def call(self, stage: str, *arguments: object, **changed: dict[str, Any]) -> None:
        params = yaml.safe_load((self.folder / "params.yaml").read_text())
        for section, values in changed.items():
            params[section] |= values
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", [stage, *map(str, arguments)])
            import_module(f"pipelines.{stage}.__main__").main()

    def train(self, model: str, index: str = "features.json", **changed: dict[str, Any]) -> None:
        files = ("--run", f"{model}.json", "--loss", f"{model}.csv", "--model", model)
        known = ("--manifest", "manifest.parquet", "--linked", "linked.json", "--features", index)
        self.call("train", *known, *files, **changed)

    def calibrate(self, model: str, out: str, **changed: dict[str, Any]) -> None:
        files = ("--model", model, "--out", out, "--scores", f"{out}.csv", "--outliers", f"{out}.png")
        self.call("calibrate", "--manifest", "manifest.parquet", "--linked", "linked.json", *files, **changed)

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.folder / "manifest.parquet")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, ray_cluster: str) -> Iterator[Place]:
    """The demo's pictures, small and few, their features, and a detector of folds with its thresholds."""
    folder = tmp_path_factory.mktemp("folds")
    generate(DemoData(image_size=64, train_images=PARTS, test_images=6), folder / "data")
    manifest = build_manifest(folder / "data", ManifestSettings(str(folder / "data")))
    write_manifest(manifest, folder / "manifest.parquet")
    write_linked(Linked(True, [LINKED]), folder / "linked.json")
    stored = {"store": str(folder / "store")}
    write_index(
        compute_features(manifest, encoder, FeatureSettings(encoder.settings, **stored)), folder / "features.json"
    )
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["features"] |= stored
    params["train"] |= {"method": "nearest", "nearest": OWN, "batch_size": 4, "storage": str(folder / "runs")}
    params["calibrate"] |= {"folds": FOLDS, "false_alarm_rate": 0.35}
    params["evaluate"] |= {"gallery": 2, "bootstrap": {"replicates": 100}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        made = Place(folder)
        made.train("model")
        made.calibrate("model", "detector")
        yield made


@pytest.fixture
def detector(place: Place) -> Detector:
    return Detector.load(place.folder / "detector")


@pytest.fixture
def lines(place: Place) -> list[HeldOutScore]:
    return read_scores(place.folder / "detector.csv")


def pictures(place: Place, lines: list[HeldOutScore]) -> list[Image.Image]:
    return [read_image(place.folder / "data" / line.path) for line in lines]


# ---- which part lies in which fold


def good(number: int, part: str = "", sha256: str = "", category: str = "nut", split: str = "train") -> Row:
    digest = sha256 or f"{number:064x}"
    return replace(row(number, 0), category=category, split=split, sha256=digest, part=part)


def test_folds_are_of_one_size_and_what_is_left_over_is_of_none() -> None:
    rows = [good(n, split="val" if n < 4 else "train") for n in range(23)]
    assigned = assign_folds(rows, 5)
    assert Counter(assigned.values()) == {0: 4, 1: 4, 2: 4, 3: 4, 4: 4, BY_ALL: 3}
    # By content alone, wherever and whatever the split is.
    assert assign_folds([replace(r, split="train") for r in reversed(rows)], 5) == assigned
    assert Counter(assign_folds(rows, 100).values()) == dict.fromkeys(range(23), 1)


def test_images_of_a_part_and_copies_lie_in_one_fold() -> None:
    same = "c" * 64
    rows = [good(n, part=f"p{n % 6}") for n in range(18)]
    rows += [good(18, part="p0", sha256=same), good(19, part="p1", sha256=same)]  # so p0 and p1 are one
    assigned = assign_folds(rows, 5)
    by_part = [{assigned[r.sha256] for r in rows if r.part == f"p{n}"} for n in range(6)]
    assert all(len(folds) == 1 for folds in by_part)
    assert by_part[0] == by_part[1]
    assert Counter(min(folds) for folds in by_part[1:]) == dict.fromkeys(range(5), 1)


def test_images_that_look_like_one_part_lie_in_one_fold() -> None:
    rows = [good(n) for n in range(12)]
    pairs = [(one.path, other.path) for one, other in zip(rows[::2], rows[1::2], strict=True)]
    assigned = assign_folds(rows, 6, Linked(True, pairs))
    assert [assigned[row.sha256] for row in rows[::2]] == [assigned[row.sha256] for row in rows[1::2]]
    assert Counter(assigned.values()) == dict.fromkeys(range(6), 2)


def test_test_images_and_defects_are_in_no_fold() -> None:
    rows = [*(good(n) for n in range(4)), good(4, split="test"), replace(good(5), label=1), replace(good(6), label=1)]
    assert set(assign_folds(rows, 2)) == {r.sha256 for r in rows[:4]}


def test_a_part_whose_defect_is_learnt_from_is_judged_by_no_fold() -> None:
    rows = [good(n, part=f"p{n // 2}") for n in range(12)]
    taught = replace(good(12, part="p1"), label=1)
    looks_alike = replace(good(13), label=1)
    of_val = replace(good(14, part="p2", split="val"), label=1)  # tuning may judge by it, nothing learns from it
    linked = Linked(True, [(looks_alike.path, rows[9].path)])
    assigned = assign_folds([*rows, taught, looks_alike, of_val], 4, linked)
    assert {n for n, r in enumerate(rows) if assigned[r.sha256] == BY_ALL} == {2, 3, 8, 9}
    assert Counter(assigned.values()) == {0: 2, 1: 2, 2: 2, 3: 2, BY_ALL: 4}


def test_a_copy_in_another_category_is_refused_also_where_a_defect_is_learnt_from() -> None:
    rows = [good(n, category=name, part=f"{name}{n}") for name in ("bolt", "nut") for n in range(4)]
    rows = [replace(r, path=f"{r.category}/{r.path}", sha256=f"{r.category}{r.sha256}"[-64:]) for r in rows]
    rows += [replace(rows[1], category="nut", path="nut/copy.png", part="taught")]
    rows += [replace(good(9, category="nut", part="taught"), label=1)]
    with pytest.raises(UserError, match=r"nut/\w+\.png is in another category too"):
        assign_folds(rows, 2)


def test_a_category_of_one_part_is_refused() -> None:
    with pytest.raises(UserError, match=r"category nut has 1 good parts to leave out: calibrate\.folds"):
        assign_folds([good(n, part="p") for n in range(5)], 5)


def test_an_image_of_two_categories_is_refused_as_one_would_train_the_other() -> None:
    rows = [good(n, category=name) for name in ("nut", "bolt") for n in range(4)]
    with pytest.raises(UserError, match=r"0\.png is in another category too"):
        assign_folds([replace(r, path=f"{r.category}/{r.path}") for r in rows], 2)


def test_a_training_without_a_fold_has_all_other_images_whatever_their_split(place: Place) -> None:
    index = read_index(place.folder / "features.json")
    features = training_features(FeatureSettings(index.encoder, store=str(place.folder / "store")), index)
    boards = [r for r in good_rows(place.manifest.rows) if r.category == "board"]
    chosen = [next(r for r in boards if r.split == split) for split in ("train", "val")]
    key = b"".join(bytes.fromhex(r.sha256) for r in chosen)
    whole, fold = replace(features, category="board").open(), replace(features, category="board", left_out=key).open()
    assert (fold.count("train"), fold.count("val")) == (len(boards) - 2, 2)
    read = [level for split in ("train", "val") for level in whole.read(split, range(whole.count(split)))[:1]]
    images = {tokens.numpy().tobytes() for level in read for tokens in level}
    parts = [{tokens.numpy().tobytes() for tokens in fold.read(s, range(fold.count(s)))[0]} for s in ("train", "val")]
    assert parts[0] | parts[1] == images
    assert not parts[0] & parts[1]


# ---- the detector


def test_every_part_is_judged_by_the_one_model_that_has_not_seen_it(
    place: Place, detector: Detector, lines: list[HeldOutScore]
) -> None:
    assert [len(models) for models in detector.folds.values()] == [FOLDS]
    counts = Counter(line.category for line in lines)
    assert (counts["board"], counts["fabric"]) == (FOLDS * (PARTS // FOLDS),) * 2
    together = {line.fold for line in lines if line.path in LINKED}
    assert (len(together), counts["metal"]) in ((1, 9), (0, 8))  # of 9 parts one is left over, maybe theirs
    images, names = pictures(place, lines), [line.category for line in lines]
    scores = np.stack([detector.predict_left_out(images, names, [k] * len(images)).scores for k in range(FOLDS)])
    own = np.array([line.fold for line in lines])
    for n, line in enumerate(lines):
        assert scores[own[n], n] == pytest.approx(line.score, abs=1e-5)
        others = np.delete(scores[:, n], own[n])
        assert others.max() < 0.2 * scores[own[n], n]
    assert detector.seen is not None
    assert len(detector.seen) == len(CATEGORIES) * PARTS


def test_the_threshold_says_what_the_theorem_promises(detector: Detector) -> None:
    assert set(detector.thresholds) == set(CATEGORIES)
    for threshold in detector.thresholds.values():
        assert threshold.cross is not None
        assert (len(threshold.scores), threshold.cross.allowed, threshold.missing_images) == (8, 0, 0)
        assert threshold.false_alarm_rate == pytest.approx(2 / 9 + (1 - 4 / 8) / 5)
        assert threshold.threshold == threshold.scores[-1]


def test_another_rate_asks_for_other_thresholds_and_no_training(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.calibrate("model", "stricter", calibrate={"false_alarm_rate": 0.2})
    out = capsys.readouterr().out
    place.calibrate("model", "again", calibrate={"false_alarm_rate": 0.35})
    stricter, again = (Detector.load(place.folder / name).thresholds["metal"] for name in ("stricter", "again"))
    assert again == Detector.load(place.folder / "detector").thresholds["metal"]
    assert (stricter.scores, stricter.missing_images > 0) == (again.scores, True)
    # 10 parts in 10 folds keep 2 / 11, which no 4 folds of theirs do.
    assert "NOT the 20.00% asked for" in out
    assert "calibrate.folds: 9 with these" in out


def test_finished_folds_are_not_trained_again(place: Place, encoder: Encoder, tmp_path: Path) -> None:
    index = read_index(place.folder / "features.json")
    features = training_features(FeatureSettings(index.encoder, store=str(place.folder / "store")), index)
    settings = TrainSettings("nearest", batch_size=4, own=NearestSettings(**OWN))
    checkpoints = open_checkpoints(str(tmp_path), "key")
    job = Job(place.manifest, index, encoder, settings, features, None, checkpoints)  # type: ignore[arg-type]
    assigned = assign_folds(place.manifest.rows, 2)
    first, _ = train_folds(job, assigned)
    finished = sorted(tmp_path.rglob(f"{FINISHED}/progress.json"))
    times = [file.stat().st_mtime_ns for file in finished]
    finished[1].unlink()  # as if it was interrupted
    second, _ = train_folds(job, assigned)
    after = [file.stat().st_mtime_ns for file in finished]
    assert len(finished) == 2
    assert (after[0] == times[0], after[1] > times[1]) == (True, True)
    for one, other in zip(first[ALL], second[ALL], strict=True):
        np.testing.assert_array_equal(one.tensors()["memory"], other.tensors()["memory"])


def test_it_is_evaluated_registered_and_served(place: Place, detector: Detector, lines: list[HeldOutScore]) -> None:
    outputs = {n: f"{n}.out" for n in ("evaluation", "metrics", "table", "scores", "plots")}
    named = [word for name, file in outputs.items() for word in (f"--{name}", file)]
    given = ("--manifest", "manifest.parquet", "--linked", "linked.json", "--detector", "detector")
    place.call("evaluate", *given, *named)
    assert "multi-class" in (place.folder / "metrics.out").read_text()
    assert set(checked(place.folder / "detector", place.manifest, place.folder / "detector.csv").folds) == {ALL}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place.folder)
        version = register(
            Run.open("key", "a run", {}, {}), place.folder / "detector", "inpformer", Evidence("one", {})
        )
        served = Registry(tracking_uri()).load("inpformer", int(version)).detector
    defect = next(r for r in place.manifest.split("test") if r.label and r.category == "fabric")
    for path in (defect.path, lines[0].path):
        image = read_image(place.folder / "data" / path)
        name = path.split("/")[0]
        one, other = (made.predict([image], [name]) for made in (served, detector))
        assert one.scores == other.scores
        decision = served.decide(float(one.scores[0]), one.maps[0], one.looks[0], image.size, name)
        assert (decision.decision == "PASS") == (decision.regions == [])


def test_a_category_is_recalibrated_from_new_images_and_the_others_keep_their_folds(
    place: Place, detector: Detector
) -> None:
    new = place.folder / "line2"
    new.mkdir()
    for n in range(5):
        pixels = np.random.default_rng(n).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(new / f"{n}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place.folder)
        version = register(Run.open("line2", "a run", {}, {}), place.folder / "detector", "inpformer", Evidence("", {}))
    place.call("recalibrate", version, "--category", "metal", "--normals", "line2")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place.folder)
        made = Registry(tracking_uri()).load("inpformer", int(version) + 1).detector
    limits = made.thresholds["metal"]
    assert (limits.cross, len(limits.scores), limits.false_alarm_rate) == (None, 5, pytest.approx(2 / 6))
    # What the service will compute is what was calibrated.
    scores = made.predict([read_image(new / f"{n}.png") for n in range(5)], ["metal"] * 5).scores
    assert sorted(scores.tolist()) == pytest.approx(limits.scores, abs=1e-6)
    assert made.thresholds["board"] == detector.thresholds["board"]
    (new / "trained.png").write_bytes(next(iter((place.folder / "data/metal/train/good").iterdir())).read_bytes())
    with pytest.raises(UserError, match=r"trained on line2/trained\.png"):
        place.call("recalibrate", version, "--category", "metal", "--normals", "line2")


def test_a_bare_image_is_not_scored_without_its_category(detector: Detector) -> None:
    model = DetectorModel()
    model.detector = detector
    with pytest.raises(UserError, match="name it in the column category, one of board, fabric, metal"):
        model.predict(None, pd.DataFrame({"image": [b""]}))  # type: ignore[arg-type]


def test_single_class_has_folds_a_category(place: Place) -> None:
    place.train("apart", train={"setting": "single-class"}, calibrate={"folds": 2})
    place.calibrate("apart", "apart_detector")
    made = Detector.load(place.folder / "apart_detector")
    assert {name: len(models) for name, models in made.folds.items()} == dict.fromkeys(CATEGORIES, 2)
    lines = read_scores(place.folder / "apart_detector.csv")
    images, names = pictures(place, lines), [line.category for line in lines]
    other = made.predict_left_out(images, names, [1 - int(line.fold or 0) for line in lines]).scores
    assert (other < [0.2 * line.score for line in lines]).all()


# ---- pictures with defects


@pytest.fixture(scope="module")
def with_defects(place: Place, encoder: Encoder) -> tuple[Path, FeatureSettings]:
    """The index of features with pictures whose defects are filled from training images, and its settings."""
    chosen = AnomalySettings(variants=2, textures="images")
    stored = FeatureSettings(encoder.settings, store=str(place.folder / "store"), anomalies=chosen)
    plan = anomaly_plan(place.manifest, stored, False)
    write_index(compute_features(place.manifest, encoder, stored, None, plan), place.folder / "defects.json")
    return place.folder / "defects.json", stored


def test_no_picture_that_shows_a_fold_teaches_the_model_without_it(
    place: Place, encoder: Encoder, with_defects: tuple[Path, FeatureSettings]
) -> None:
    file, stored = with_defects
    index = read_index(file)
    settings = TrainSettings("inp_former_pp", batch_size=4)
    features, anomalies = training_features(stored, index), training_anomalies(stored, index)
    job = Job(place.manifest, index, encoder, settings, features, None, None, anomalies)  # type: ignore[arg-type]
    assigned, plan = assign_folds(place.manifest.rows, FOLDS), anomaly_plan(place.manifest, stored, False)
    known = showing(place.manifest, stored, False)
    made: dict[str, tuple[str, str]] = {}  # by key: what it is made of, and filled from
    for one in good_rows(place.manifest.rows):
        for view in plan.views(one):
            assert isinstance(view, AnomalyView)
            assert isinstance(view.source, Texture)
            made[view.key(one.sha256)] = one.sha256, view.source.sha256
    dropped = 0
    for fold in range(FOLDS):
        out = {sha256 for sha256, number in assigned.items() if number == fold}
        members = [one for one in good_rows(place.manifest.rows) if one.sha256 in out]
        views = job.loop(None, fold_of(job, members, known)).anomalies
        assert views is not None
        free = [key for key, sources in made.items() if not out & set(sources)]
        own = [key for key, (base, _) in made.items() if base in out]
        opened = views.open()
        assert (opened.count("train"), opened.count("val")) == (len(free), len(own))
        dropped += len(made) - len(free) - len(own)
    assert dropped > 0


# ---- what is refused


def known(detector: Detector, lines: list[HeldOutScore]) -> list[GoodImage]:
    linked = Linked(True, [LINKED])
    return [GoodImage(Path(r.path), r.category, r.sha256, r.part, linked.group(r.path)) for r in lines]


def test_an_image_that_was_not_there_in_training_is_refused(detector: Detector, lines: list[HeldOutScore]) -> None:
    images = known(detector, lines)
    strange = replace(images[3], path=Path("new.png"), sha256="ab" * 32)
    with pytest.raises(UserError, match=r"^new\.png was not among"):
        left_out(detector, [*images, strange])
    detector.seen = None
    with pytest.raises(UserError, match=f"^{images[0].path} was not among"):
        left_out(detector, images)
    detector.seen = SeenImages.of(image.sha256 for image in images)
    with pytest.raises(UserError, match=f"^{images[0].path} was not among"):
        left_out(detector, images)


@pytest.mark.parametrize("wrong", ["size", "part", "linked", "count"])
def test_folds_that_the_bound_is_not_of_are_refused(detector: Detector, lines: list[HeldOutScore], wrong: str) -> None:
    found = left_out(detector, known(detector, lines))
    asked = CalibrationSettings(0.35, folds=FOLDS)
    scores = [line.score for line in lines]
    thresholds_across(found, scores, asked)
    if wrong == "size":
        found.folds[0] = (found.folds[0] + 1) % FOLDS
    elif wrong == "part":  # two images of one part, in two folds
        other = next(n for n in range(1, 8) if found.folds[n] != found.folds[0])
        for n in (0, other):
            found.images[n] = replace(found.images[n], part="p")
    elif wrong == "linked":  # the gate sees one part now where it saw several
        for n, image in enumerate(found.images):
            found.images[n] = replace(image, linked="board" if image.category == "board" else image.linked)
    else:
        asked = replace(asked, folds=FOLDS + 1)
    with pytest.raises(UserError, match="folds of category board are not those of its images"):
        thresholds_across(found, scores, asked)


def test_models_without_folds_and_thresholds_with_them_do_not_belong_together(place: Place) -> None:
    place.train("plain", train={"setting": "single-class"}, calibrate={"folds": None})
    with pytest.raises(UserError, match=r"calibrate\.folds is 4, but what was trained has no models"):
        place.calibrate("plain", "wrong", calibrate={"folds": FOLDS})
    with pytest.raises(UserError, match=r"calibrate\.folds is None, but what was trained has a model a fold"):
        place.calibrate("model", "wrong", calibrate={"folds": None})
    assert not (place.folder / "wrong").exists()
    place.calibrate("plain", "plain_detector")
    assert "fold" in (place.folder / "plain_detector.csv").read_text().splitlines()[0]
    assert read_scores(place.folder / "plain_detector.csv")[0].fold is None
    with pytest.raises(UserError, match=r"calibrate\.folds trains models of its own"):
        place.train("wrong", train={"weights": "plain"}, calibrate={"folds": FOLDS})
    with pytest.raises(UserError, match="model has a model a fold"):
        place.train("wrong", train={"weights": "model"}, calibrate={"folds": None})


def test_few_shot_leaves_out_what_folds_would_use(place: Place, tmp_path: Path) -> None:
    write_manifest(replace(place.manifest, shots=4), place.folder / "few.parquet")
    files = ("--features", "features.json", "--model", "w", "--run", "w.json", "--loss", "w.csv")
    with pytest.raises(UserError, match=r"manifest\.shots leaves good images out"):
        place.call(
            "train",
            "--manifest",
            "few.parquet",
            *files,
            train={"method": "nearest", "weights": None},
            calibrate={"folds": FOLDS},
        )


def test_a_method_that_learns_from_defects_is_trained_and_calibrated_in_folds(
    place: Place, with_defects: tuple[Path, FeatureSettings]
) -> None:
    stored = {"anomalies": {"variants": 2, "textures": "images", "seed": 0}}
    own = {"grid": 4, "channels": 32, "epochs": 1, "fewest_steps": 0, "num_prototypes": 2}
    params = yaml.safe_load((place.folder / "params.yaml").read_text())
    own = params["train"]["inp_former_pp"] | own
    learnt = {"method": "inp_former_pp", "inp_former_pp": own, "setting": "multi-class", "weights": None}
    place.train("pp", "defects.json", train=learnt, features=stored, calibrate={"folds": 2})
    place.calibrate("pp", "pp_detector")
    made = Detector.load(place.folder / "pp_detector")
    assert (made.method.name, len(made.folds[ALL])) == ("inp_former_pp", 2)
    one, other = (model.tensors()["head.out.weight"] for model in made.folds[ALL])
    assert not one.equal(other)
    assert all(t.cross is not None and len(t.scores) >= 8 for t in made.thresholds.values())
