"""The search's parts without Ray: what is refused, what trials are judged on and by, the table and the winner."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from PIL import Image
from ray.tune.experiment import Trial as RayTrial

from inpformer.config import build
from inpformer.encoders.encoder import Encoder
from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.images.deep import WHITE
from inpformer.images.tiling import Tiling
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL, LearntFrom
from inpformer.methods import METHODS
from inpformer.methods.dadf.settings import DadfSettings, FlowSettings
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.methods.nearest.settings import NearestSettings
from inpformer.nn.maps import image_scores
from inpformer.training.settings import TrainSettings
from pipelines.features.index import FeatureIndex, compute_features
from pipelines.features.settings import FeatureSettings
from pipelines.gate.checks import held_out
from pipelines.gate.linked import Linked
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import Manifest
from pipelines.training.features import training_features
from pipelines.training.job import wanted_by
from pipelines.tune.judged import JudgedSet, choose, judged_set
from pipelines.tune.objective import Objective, miss_rate, objective_of, rate
from pipelines.tune.on_cluster import Asha, check_resources
from pipelines.tune.report import write
from pipelines.tune.search import plan, report_epochs
from pipelines.tune.settings import Domain, TuneSettings
from pipelines.tune.space import distributions, searchable, space_of
from pipelines.tune.table import FINISHED, STOPPED, Trial, best_trial
from pipelines.tune.winner import read_winner, with_values, write_winner
from tests.conftest import OWN, untrained

WANTS = Wants(((0, 1, 2, 3),), "channels", (4,))
SMALL_NEAREST = NearestSettings(neighbours=2, coreset_share=0.5, grid=4, channels=32)
NEAREST = TrainSettings(method="nearest")
ROOT = Path(__file__).resolve().parents[2]
SPACE = {"inp_former.lr": Domain(choices=(1e-4, 1e-3))}


def plate(rng: np.random.Generator, dent: bool = False) -> Image.Image:
    """Stripes, 64 pixels a side; a dent is a dark square at the top left."""
    wave = 120 + 80 * np.sin(2 * np.pi * (6 * np.linspace(0, 1, 64) + rng.uniform()))
    pixels = wave[None, :, None] * np.array([1, 0.8, 0.5]) + rng.normal(0, 8, (64, 64, 3))
    pixels[:16, :16] *= 0.2 if dent else 1
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with good images, and defective ones in val and test, two of val without a mask."""
    root = tmp_path_factory.mktemp("tune") / "plates"
    root.mkdir()
    rng = np.random.default_rng(0)
    lines = ["path,split,defect,mask"]
    dent = np.zeros((64, 64), np.uint8)
    dent[:16, :16] = 255
    Image.fromarray(dent).save(root / "dent.png")
    for split, defect, mask, count in (
        ("train", "good", "", 12),
        ("val", "good", "", 6),
        ("val", "dent", "dent.png", 3),
        ("val", "dent", "", 2),
        ("test", "good", "", 1),
        ("test", "dent", "dent.png", 1),
    ):
        for n in range(count):
            name = f"{split}-{defect}-{bool(mask)}-{n}.png"
            plate(rng, defect == "dent").save(root / name)
            lines.append(f"{name},{split},{defect},{mask}")
    (root / "samples.csv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def manifest(data: Path) -> Manifest:
    return build_manifest(data, ManifestSettings("unused"))


# ---- settings


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"trials": -1}, "tune.trials is -1: it must be 0"),
        ({"trials": 4, "space": {}}, "tune.space is {}: it must be the parameters to search"),
        ({"objective": "test"}, "tune.objective is 'test': it must be one of pseudo, labelled, miss_rate"),
        ({"false_alarm_rate": 1.0}, "tune.false_alarm_rate is 1.0: it must be between 0 and 1"),
        ({"gpus": -0.5}, "tune.gpus is -0.5: it must be 0 or more"),
        ({"space": {"lr": {"low": 1, "high": 1}}}, "tune.space.lr.high is 1.0: it must be above low"),
        ({"space": {"lr": {"low": 0, "high": 1, "log": True}}}, "tune.space.lr.low is 0.0: it must be above 0"),
        ({"space": {"lr": {"low": 0.1}}}, "tune.space.lr.high is None: it must be above low"),
        ({"space": {"lr": {"choices": [0.1, 0.1]}}}, "tune.space.lr.choices is [0.1, 0.1]: it must be two or more"),
        ({"space": {"lr": {"choices": [1, 2], "log": True}}}, "tune.space.lr.choices is (1.0, 2.0): it must be alone"),
        ({"space": [1]}, "tune.space is [1]: it must be a table"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(values: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as error:
        build(TuneSettings, values, "tune")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "domain", "words"),
    [
        ("seed", Domain(1, 2), "tune.space.seed cannot be searched: use some of batch_size, inp_former.num_prototypes"),
        ("num_prototypes", Domain(1, 2), "tune.space.num_prototypes cannot be searched"),
        ("inp_former.losses.gamma", Domain(1, 2), "tune.space.inp_former.losses.gamma cannot be searched"),
        ("inp_former.epochs", Domain(1, 2), "tune.space.inp_former.epochs cannot be searched"),
        ("nearest.neighbours", Domain(1, 2), "tune.space.nearest.neighbours cannot be searched"),
        ("inp_former.num_prototypes", Domain(0, 4), "train.inp_former.num_prototypes is 0: it must be at least 1"),
        (
            "inp_former.num_prototypes",
            Domain(1, 2.5),
            "inp_former.num_prototypes is 2.5: it must be a whole number",
        ),
        (
            "inp_former.lr",
            Domain(1e-5, 1e-3),
            "inp_former.final_lr is 0.0001: it must be between 0 and lr, 1e-05",
        ),
        ("batch_size", Domain(1, 4), "train.batch_size is 1: it must be at least 2, an image for each of num_workers"),
    ],
)
def test_a_space_that_train_could_not_take_is_refused_before_any_trial(name: str, domain: Domain, words: str) -> None:
    with pytest.raises(UserError) as error:
        distributions({name: domain}, TrainSettings(num_workers=2))
    assert words in str(error.value)


def test_every_number_of_train_and_its_losses_can_be_searched() -> None:
    own = {"num_prototypes", "losses.coherence_weight", "losses.mining_power", "lr", "final_lr", "warmup"}
    assert set(searchable(TrainSettings())) == {"batch_size", *(f"inp_former.{name}" for name in own)}
    assert set(searchable(NEAREST)) == {"batch_size", "nearest.neighbours", "nearest.coreset_share"}
    space = {
        "inp_former.lr": Domain(1e-4, 1e-2, log=True),
        "inp_former.num_prototypes": Domain(2, 8),
        "inp_former.losses.mining_power": Domain(choices=(0, 3)),
    }
    assert distributions(space, TrainSettings()) == {
        "inp_former.lr": FloatDistribution(1e-4, 1e-2, log=True),
        "inp_former.num_prototypes": IntDistribution(2, 8),
        "inp_former.losses.mining_power": CategoricalDistribution([0.0, 3.0]),
    }


@pytest.mark.parametrize("name", METHODS)
def test_where_nothing_is_said_the_methods_own_space_is_searched(name: str) -> None:
    train = TrainSettings(method=name)
    found = distributions(space_of(TuneSettings(trials=2), train), train)
    assert set(found) == {f"{name}.{key}" for key in METHODS[name].space}
    assert found
    assert space_of(TuneSettings(trials=2, space=SPACE), train) == SPACE


LEVELS = EncoderShape((Level(4, 100), Level(2, 200)), None)
INDEX = FeatureIndex(None, "key", "digest", LEVELS, None, None, 1, "table")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (
            TrainSettings(setting="single-class"),
            "train.setting is single-class: a search tunes the training of one mod",
        ),
        (TrainSettings(weights="elsewhere"), "train.weights is set"),
        (TrainSettings(own=InpFormerSettings(epochs=1)), "tune.grace is 2: a trial has 1 epochs"),
        (TrainSettings(own=InpFormerSettings(channels=999)), "params.yaml: train.inp_former.channels is 999"),
    ],
)
def test_where_there_is_nothing_to_tune_it_says_so(manifest: Manifest, train: TrainSettings, words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan(TuneSettings(trials=2, space=SPACE), train, manifest, INDEX)


def test_a_search_is_named_by_what_it_depends_on(manifest: Manifest) -> None:
    def key(train: TrainSettings, settings: TuneSettings) -> str:
        return plan(settings, train, manifest, INDEX).key

    settings = TuneSettings(trials=2, space=SPACE)
    assert key(TrainSettings(), settings) == key(TrainSettings(), settings)
    for elsewhere in ({"num_workers": 4}, {"storage": "elsewhere"}, {"checkpoint_every": 1}):
        assert key(TrainSettings(**elsewhere), settings) == key(TrainSettings(), settings)  # type: ignore[arg-type]
    for elsewhere in ({"concurrency": 9}, {"cpus": 0.5}, {"gpus": 1.0}):
        assert key(TrainSettings(), replace(settings, **elsewhere)) == key(TrainSettings(), settings)
    warm = TrainSettings(own=InpFormerSettings(warmup=1))
    others = [key(warm, settings), key(TrainSettings(), replace(settings, images=9))]
    others.append(key(NEAREST, TuneSettings(trials=2)))
    assert len({key(TrainSettings(), settings), *others}) == 4


def test_trials_are_judged_at_the_rungs_at_checkpoints_and_at_the_end() -> None:
    settings = TuneSettings(grace=2, reduction=4)
    assert report_epochs(settings, TrainSettings(checkpoint_every=9), 20) == (2, 8, 9, 18, 20)
    assert report_epochs(settings, TrainSettings(checkpoint_every=10), 2) == (2,)
    assert report_epochs(settings, NEAREST, 0) == (0,)


def test_a_method_without_epochs_is_searched_too_but_not_for_so_many(manifest: Manifest) -> None:
    search = plan(TuneSettings(trials=2, grace=5), NEAREST, manifest, INDEX)
    assert (search.epochs, set(search.space)) == (0, {"nearest.neighbours", "nearest.coreset_share"})
    with pytest.raises(UserError, match=r"tune.epochs is 3: nearest takes no epochs, set it to null"):
        plan(TuneSettings(trials=2, epochs=3), NEAREST, manifest, INDEX)
    assert plan(TuneSettings(trials=2, epochs=3), TrainSettings(), manifest, INDEX).epochs == 3


def test_all_trials_take_the_epochs_that_the_floor_in_steps_asks_for(manifest: Manifest) -> None:
    images = len(list(manifest.split("train")))
    train = TrainSettings(batch_size=images // 2, own=InpFormerSettings(epochs=2, fewest_steps=21))
    search = plan(TuneSettings(trials=2), train, manifest, INDEX)
    assert (search.epochs, search.train.own.epochs, search.train.own.fewest_steps) == (11, 11, 0)
    assert plan(TuneSettings(trials=2, epochs=3), train, manifest, INDEX).epochs == 3


def test_trials_of_two_trainings_take_both_floors_and_are_stopped_in_the_last_one(manifest: Manifest) -> None:
    images = len(list(manifest.split("train")))
    own = DadfSettings(width=8, depth=1, heads=2, epochs=2, fewest_steps=21, flow=FlowSettings(1, 3, 11))
    train = TrainSettings(method="dadf", batch_size=images // 2, own=own)
    search = plan(TuneSettings(trials=2), train, manifest, INDEX)
    found = search.train.own
    assert [(one.epochs, one.fewest_steps) for one in (found, found.flow)] == [(11, 0), (6, 0)]
    assert (search.epochs, search.settings.grace) == (17, 11 + 2)
    with pytest.raises(UserError, match=r"tune.grace is 7: a trial has 6 epochs in its last training"):
        plan(TuneSettings(trials=2, grace=7), train, manifest, INDEX)


# ---- what trials are judged on


def test_each_good_picture_stands_beside_itself_with_a_patch(manifest: Manifest, encoder: Encoder) -> None:
    judged = judged_set(manifest, encoder, WANTS, None, TuneSettings(images=4))
    assert [group.shape for group in judged.features] == [(8, 16, 496)]
    assert judged.labels.tolist() == [False, True] * 4
    assert judged.masks[judged.labels].any(axis=(1, 2)).all()
    assert not judged.masks[~judged.labels].any()
    (group,) = judged.features
    good, patched = group[::2].astype(np.float32), group[1::2].astype(np.float32)
    assert (np.abs(good - patched).max(axis=(1, 2)) > 0.1).all()
    halves = judged_set(manifest, encoder, Wants(((0,), (1, 2)), "channels", (4, 4)), None, TuneSettings(images=4))
    together = np.concatenate(halves.features, axis=-1)
    np.testing.assert_array_equal(together, group[..., : together.shape[-1]])


def test_test_images_are_never_looked_at(data: Path, encoder: Encoder, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "plates"))
    manifest, settings = build_manifest(copy, ManifestSettings("unused")), TuneSettings(images=4)
    before = judged_set(manifest, encoder, WANTS, None, settings)
    for row in manifest.split("test"):
        (copy / row.path).unlink()
    without = replace(manifest, rows=[row for row in manifest.rows if row.split != "test"])
    for after in (
        judged_set(manifest, encoder, WANTS, None, settings),
        judged_set(without, encoder, WANTS, None, settings),
    ):
        np.testing.assert_array_equal(after.features[0], before.features[0])
        np.testing.assert_array_equal(after.masks, before.masks)


def test_the_choice_follows_content_alone_and_is_even_over_categories(manifest: Manifest) -> None:
    rows = [replace(row, category="ab"[n % 2]) for n, row in enumerate(manifest.held_out)]
    chosen = choose(rows, None, 4, WHITE)
    assert sorted(row.category for row, _ in chosen) == ["a", "a", "b", "b"]
    assert {row.path for row, _ in choose(rows[::-1], None, 4, WHITE)} == {row.path for row, _ in chosen}
    assert len(choose(rows, None, 1000, WHITE)) == 6
    tiles = choose(rows, Tiling(32, 0.0), 8, WHITE)
    assert len({(row.path, view.window) for row, view in tiles}) == 8


def test_labelled_images_are_judged_with_their_own_masks(manifest: Manifest, encoder: Encoder) -> None:
    judged = judged_set(manifest, encoder, WANTS, None, TuneSettings(objective="labelled"))
    assert judged.labels.tolist().count(True) == 5
    assert judged.mask_known.tolist().count(False) == 2
    assert judged.masks.mean(axis=(1, 2)).tolist().count(1 / 16) == 3
    tiles = judged_set(manifest, encoder, WANTS, Tiling(32, 0.0), TuneSettings(objective="labelled", images=24))
    assert (len(tiles.labels), int(tiles.labels.sum())) == (24 + 12, 3)


def test_labelled_images_that_are_not_there_are_missed_in_a_sentence(manifest: Manifest, encoder: Encoder) -> None:
    unlabelled = replace(manifest, rows=[row for row in manifest.rows if row.split != "val" or not row.label])
    with pytest.raises(UserError, match="the data has no defective image in split val: name some in a table"):
        judged_set(unlabelled, encoder, WANTS, None, TuneSettings(objective="labelled"))


def test_labelled_validation_images_change_nothing_else(manifest: Manifest, encoder: Encoder, tmp_path: Path) -> None:
    assert len(manifest.split("val")) == 11
    assert [row.defect for row in manifest.held_out] == ["good"] * 6
    stored = FeatureSettings(encoder.settings, store=str(tmp_path))
    views = training_features(stored, compute_features(manifest, encoder, stored)).open()
    assert (views.count("train"), views.count("val")) == (12, 6)
    (finding,) = held_out(list(manifest.rows), Linked(), 0.1, None)
    assert "6 good images are held out" in finding.text


def test_a_category_with_labelled_validation_images_alone_still_gets_good_ones(data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "plates"))
    table = (copy / "samples.csv").read_text()
    (copy / "samples.csv").write_text(table.replace(",val,good,", ",train,good,"))
    assert len(list(build_manifest(copy, ManifestSettings("unused")).held_out)) == 4


# ---- what they are judged by


def made_set(labels: list[bool], categories: list[str]) -> JudgedSet:
    masks = np.zeros((len(labels), 256, 256), np.bool_)
    masks[labels, :64, :64] = True
    return JudgedSet(
        (np.zeros((len(labels), 1, 1), np.float16),),
        masks,
        np.array(labels),
        np.ones(len(labels), np.bool_),
        np.array(categories),
        64,
    )


def rated(maps: NDArray[np.float32], judged: JudgedSet) -> Objective:
    """Rated by the maps and their largest values."""
    return rate(maps, image_scores(torch.from_numpy(maps)).numpy(), judged, 0.05)


def test_a_perfect_map_gives_one_and_a_blind_one_the_share_of_defects() -> None:
    judged = made_set([False, True] * 2, ["a", "a", "b", "b"])
    assert rated(judged.masks.astype(np.float32), judged) == Objective(0.0, 1.0, 1.0)
    blind = rated(np.zeros((4, 256, 256), np.float32), judged)
    assert (blind.image_ap, blind.pixel_ap, blind.value("pseudo")) == (0.5, 1 / 32, (0.5 + 1 / 32) / 2)


def test_images_are_rated_by_the_scores_of_the_method() -> None:
    judged = made_set([False, True] * 2, ["a", "a", "b", "b"])
    maps = judged.masks.astype(np.float32)
    assert rate(maps, np.array([0, 1, 0, 1], np.float32), judged, 0.05) == Objective(0.0, 1.0, 1.0)
    assert rate(maps, np.array([1, 0, 1, 0], np.float32), judged, 0.05) == Objective(1.0, 0.5, 1.0)


@pytest.mark.parametrize("train", [TrainSettings(own=OWN), TrainSettings(method="nearest", own=SMALL_NEAREST)])
def test_a_model_is_judged_as_the_detector_judges(manifest: Manifest, encoder: Encoder, train: TrainSettings) -> None:
    model = untrained(encoder, method=train.kind, own=train.own)
    judged = judged_set(manifest, encoder, wanted_by(train, encoder.shape), None, TuneSettings(images=4))
    model.train()
    found = objective_of(model, judged, torch.device("cpu"), 0.05)
    assert model.training
    learnt = LearntFrom("multi-class", "0" * 64, ("plates",))
    detector = Detector(encoder, train.kind, train.own, {ALL: model}, learnt, {})
    good = [Image.open(manifest.root / row.path) for row, _ in choose(manifest.held_out, None, 4, WHITE)]
    maps = detector.predict(good, ["plates"] * 4)
    groups = [torch.tensor(group[::2]).float() for group in judged.features]
    with torch.inference_mode():
        mine = model.maps(groups, judged.image_size, zero_shot=False)
    np.testing.assert_allclose(model.scores(mine).numpy(), maps.scores, rtol=0.02)
    assert 0 < found.value("pseudo") <= 1


def test_categories_count_alike_whatever_the_scale_of_their_scores() -> None:
    judged = made_set([False, True] * 2, ["a", "a", "b", "b"])
    maps = judged.masks.astype(np.float32)
    maps[2:] += 10  # the good picture of b scores higher than the bad one of a
    assert rated(maps, judged).value("pseudo") == 1.0


def test_without_masks_images_alone_count() -> None:
    judged = replace(made_set([False, True], ["a", "a"]), mask_known=np.array([True, False]))
    objective = rated(judged.masks.astype(np.float32), judged)
    assert (objective.pixel_ap, objective.value("pseudo")) == (None, 1.0)
    several = [Objective(0.5, 0.5, None), Objective(0.0, 1.0, None)]
    assert Objective.mean(several) == Objective(0.25, 0.75, None)


def test_what_does_not_fail_at_the_good_pictures_threshold_is_missed() -> None:
    good, anomalous = np.arange(1, 40, dtype=np.float32), np.array([10, 37.5, 38, 38.5, 50], np.float32)
    assert miss_rate(good, anomalous, 0.05) == 3 / 5  # the second highest of 39, which does not FAIL itself
    assert miss_rate(good[:4], anomalous, 0.05) == 0  # too few: their highest
    assert miss_rate(good[:4], np.array([4, 3], np.float32), 0.05) == 1
    labels = [False] * 3 + [True] * 3
    judged = made_set(labels * 2, ["a"] * 6 + ["b"] * 6)
    scores = np.array([1, 2, 3, 2, 4, 5, 10, 20, 30, 20, 30, 50], np.float32)
    found = rate(judged.masks.astype(np.float32), scores, judged, 0.05)
    assert found.miss_rate == pytest.approx((1 / 3 + 2 / 3) / 2)


def test_fewer_misses_come_first_and_precision_breaks_ties() -> None:
    ordered = [Objective(0.30, 1, 1), Objective(0.299, 0.2, 0.1), Objective(0.299, 0.2, 0.2), Objective(0, 1, 1)]
    values = [objective.value("miss_rate") for objective in ordered]
    assert values == sorted(set(values))
    assert values[-1] == 1
    assert Objective(1, 0, None).value("miss_rate") == 0


def test_misses_are_counted_on_the_pictures_of_pseudo(manifest: Manifest, encoder: Encoder) -> None:
    one, other = (
        judged_set(manifest, encoder, WANTS, None, TuneSettings(images=4, objective=name))
        for name in ("pseudo", "miss_rate")
    )
    for name in ("masks", "labels", "categories"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


# ---- how it is told


def test_the_winner_was_trained_to_the_end(tmp_path: Path) -> None:
    def trial(state: str, objective: float | None, lr: float) -> Trial:
        return Trial({"lr": lr}, state, 2, objective, 0.5, objective, None, 1.0)

    trials = [trial(FINISHED, 0.6, 1), trial(STOPPED, 0.9, 2), trial(FINISHED, 0.7, 3), trial("failed", None, 4)]
    assert best_trial(trials) is trials[2]
    assert best_trial(trials[1:2]) is None
    write(trials, {"lr": FloatDistribution(1, 4)}, tmp_path)
    table = [line.split(",") for line in (tmp_path / "trials.csv").read_text().splitlines()]
    assert table[0] == [
        "trial",
        "state",
        "epochs",
        "objective",
        "best",
        "miss_rate",
        "image_ap",
        "pixel_ap",
        "seconds",
        "lr",
    ]
    assert [row[4] for row in table[1:]] == ["0.6", "0.6", "0.7", "0.7"]
    for name in ("best", "parallel", "importance"):
        with Image.open(tmp_path / f"pictures/{name}.png") as picture:
            assert picture.width > 500


@pytest.mark.parametrize("spread", [0.0, 1e-9, 0.1])
def test_trials_that_reach_the_same_are_reported_too(tmp_path: Path, spread: float) -> None:
    objectives = [1.0 - spread * n for n in range(6)]
    trials = [Trial({"lr": 1.0 + n / 2}, FINISHED, 2, o, 0.5, o, None, 1.0) for n, o in enumerate(objectives)]
    write(trials, {"lr": FloatDistribution(1, 4)}, tmp_path)
    assert (tmp_path / "pictures/importance.png").stat().st_size > 1000


def test_asha_knows_after_an_interruption_what_earlier_trials_reached() -> None:
    def add(scheduler: Asha, judged: list[tuple[int, float]]) -> RayTrial:
        trial = RayTrial("stub", stub=True)
        trial.run_metadata.last_result = {"judged": judged}
        scheduler.on_trial_add(None, trial)
        return trial

    for earlier, decision in (([(1, 0.9)], "STOP"), ([], "CONTINUE")):
        scheduler = Asha("epoch", "objective", "max", max_t=4, grace_period=1, reduction_factor=2)
        add(scheduler, earlier)
        late = add(scheduler, [])
        assert scheduler.on_trial_result(None, late, {"epoch": 1, "objective": 0.5}) == decision


def test_more_than_any_machine_has_is_refused(ray_cluster: str) -> None:
    with pytest.raises(UserError, match=r"tune.cpus is 64 and tune.gpus 0: no machine of the cluster has as many"):
        check_resources(TuneSettings(cpus=64))
    check_resources(TuneSettings(cpus=0.5))


def test_without_trials_nothing_is_loaded_and_the_table_is_empty(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"tune": {"trials": 0}}))
    for name in "mf":  # they are there, and are not read
        (tmp_path / name).touch()
    code = (
        "import sys; from pipelines.tune.__main__ import main;"
        "sys.argv += '--manifest m --features f --out t --report r'.split();"
        "main(); assert not {'torch', 'ray', 'mlflow', 'optuna'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "t").read_text()) == {"objective": None, "train": {}}
    assert len((tmp_path / "r/trials.csv").read_text().splitlines()) == 1


def test_tuned_values_are_read_back_and_strange_ones_refused(tmp_path: Path) -> None:
    file = tmp_path / "winner.json"
    write_winner(file, 0.9, {"inp_former.losses.mining_power": 2.0, "inp_former.num_prototypes": 4, "batch_size": 4})
    settings = with_values(TrainSettings(), read_winner(file), f"{file}: train")
    losses = settings.own.losses
    assert (losses.mining_power, losses.coherence_weight, settings.own.num_prototypes) == (2.0, 0.2, 4)
    assert settings.batch_size == 4
    for values, words in (
        ({"lambda": 1}, "train.lambda is not a known key"),
        ({"lr": 1}, "train.lr is not a known key"),
        ({"inp_former.lr.low": 1}, "train.inp_former.lr.low is not a known key"),
        ({"nearest.neighbours": 2}, "train.nearest.neighbours is not a known key"),
        ({"inp_former.losses.mining_power": 99}, "inp_former.losses.mining_power is 99.0: it must be between 0 and 16"),
    ):
        write_winner(file, 0.9, values)
        with pytest.raises(UserError) as error:
            with_values(TrainSettings(), read_winner(file), f"{file}: train")
        assert words in str(error.value)
    for text, words in (
        ("[", "cannot be read"),
        ('{"train": {}}', "does not hold just objective and train"),
        ('{"objective": 1, "train": {"storage": "/etc"}}', "a table of numbers"),
        ('{"objective": 1, "train": []}', "a table of numbers"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=words):
            read_winner(file)
