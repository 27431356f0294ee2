"""A detector with a model a fold: what it makes of their scores and maps, in one piece and in tiles."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from inpformer.images.tiling import Tiling
from inpformer.judging import detector as module
from inpformer.judging.calibration import calibrate_across
from inpformer.judging.detector import CALIBRATION_FILE, CONFIG_FILE, Detector, lifted
from inpformer.judging.learnt import ALL
from inpformer.judging.seen import BY_ALL, SeenImages
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods.base import Model
from tests.conftest import INP_FORMER, MULTI, OWN, limits, untrained
from tests.judging.test_detector import edit, picture

FOLDS = 3
ASKED = CalibrationSettings(0.9, review_rate=0.05)
TILES = Tiling(64, 0.25)


@pytest.fixture(scope="module")
def models(encoder: Encoder) -> list[Model]:
    return [untrained(encoder, seed) for seed in range(FOLDS)]


def alone(encoder: Encoder, model: Model, tiling: Tiling | None = None) -> Detector:
    return Detector(encoder, INP_FORMER, OWN, {ALL: model}, MULTI, {}, tiling)


def together(encoder: Encoder, models: Sequence[Model], tiling: Tiling | None = None) -> Detector:
    return Detector(encoder, INP_FORMER, OWN, {}, MULTI, {}, tiling, folds={ALL: models})


def calibrated(detector: Detector, around: float) -> Detector:
    """With a threshold for nut near the scores that its models give."""
    scores = [around + 0.001 * (n - 4) for n in range(9)]
    detector.thresholds = {"nut": calibrate_across("nut", scores, [n % FOLDS for n in range(9)], ASKED)}
    return detector


@pytest.mark.parametrize("tiling", [None, TILES])
def test_the_score_is_made_of_what_each_model_would_give_alone(
    encoder: Encoder, models: list[Model], tiling: Tiling | None
) -> None:
    images, names = [picture(0), picture(1, (130, 70))], ["nut", "nut"]
    each = [alone(encoder, model, tiling).predict(images, names) for model in models]
    detector = calibrated(together(encoder, models, tiling), float(each[0].scores[0]))
    prediction = detector.predict(images, names)
    threshold = detector.thresholds["nut"]
    assert threshold.cross is not None
    for n in range(2):
        own = {fold: float(one.scores[n]) for fold, one in enumerate(each)}
        expected = threshold.cross.score(own, threshold.scores, threshold.threshold)
        assert prediction.scores[n] == pytest.approx(expected, abs=1e-6)
        mean = np.mean([one.maps[n] for one in each], axis=0)
        moved = prediction.maps[n] - mean
        assert np.ptp(moved) < 1e-5  # the mean map, moved as a whole


def test_few_maps_are_held_at_a_time_and_nothing_else_changes(
    encoder: Encoder, models: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = calibrated(together(encoder, models, TILES), 0.3)
    images, names = [picture(0, (130, 70))], ["nut"]
    before = detector.predict(images, names)
    monkeypatch.setattr(module, "MAPS_AT_A_TIME", 1)
    after = detector.predict(images, names)
    assert after.scores.tolist() == before.scores.tolist()
    np.testing.assert_array_equal(after.maps[0], before.maps[0])


def test_the_fold_of_a_held_out_image_judges_it_alone(encoder: Encoder, models: list[Model]) -> None:
    images = [picture(n) for n in range(3)]
    found = together(encoder, models).predict_left_out(images, ["nut"] * 3, [2, 0, 2])
    for n, fold in enumerate((2, 0, 2)):
        expected = alone(encoder, models[fold]).predict([images[n]], ["nut"])
        assert found.scores[n] == pytest.approx(float(expected.scores[0]), abs=1e-6)
        np.testing.assert_allclose(found.maps[n], expected.maps[0], atol=1e-6)


@pytest.mark.parametrize("around", [-1.0, 0.0, 0.5])
def test_a_fail_and_a_review_have_regions_and_a_pass_has_none(
    encoder: Encoder, models: list[Model], around: float
) -> None:
    detector = together(encoder, models)
    middle = float(np.median(detector.predict([picture(n) for n in range(8)], ["nut"] * 8).scores))
    calibrated(detector, middle + around)
    for n in range(8):
        prediction = detector.predict([picture(n)], ["nut"])
        decision = detector.decide(
            float(prediction.scores[0]), prediction.maps[0], prediction.looks[0], (90, 60), "nut"
        )
        assert (decision.decision == "PASS") == (decision.regions == [])
        assert around == 0.0 or decision.decision == ("FAIL" if around < 0 else "PASS")


@pytest.mark.parametrize("score", [1.0, np.nextafter(np.float32(1), np.float32(2)), -3.0, 1e6])
def test_a_flat_map_is_lifted_to_the_score_and_not_below(score: float) -> None:
    rng = np.random.default_rng(0)
    for anomaly_map in (np.full((4, 4), 0.1, np.float32), rng.random((4, 4)).astype(np.float32)):
        assert lifted(anomaly_map, float(anomaly_map.max()), float(score)).max() >= np.float32(score)


def test_a_category_with_a_threshold_of_its_own_is_scored_by_the_mean_map(
    encoder: Encoder, models: list[Model]
) -> None:
    """As recalibrate leaves it, and before there is a threshold: one function of the image, whatever the folds were."""
    detector = calibrated(together(encoder, models), 0.3)
    detector.thresholds["bolt"] = limits(0.5)
    images = [picture(0), picture(1)]
    found = detector.predict(images, ["bolt", "gear"])
    each = [alone(encoder, model).predict(images, ["bolt", "bolt"]) for model in models]
    for n in range(2):
        mean = np.mean([one.maps[n] for one in each], axis=0)
        np.testing.assert_allclose(found.maps[n], mean, atol=1e-6)
        assert found.scores[n] == pytest.approx(np.sort(mean.ravel())[-655:].mean(), abs=1e-5)


def test_categories_may_have_fewer_folds_and_models_of_their_own(encoder: Encoder, models: list[Model]) -> None:
    detector = Detector(encoder, INP_FORMER, OWN, {}, MULTI, {}, folds={"nut": models, "bolt": models[:2]})
    image = picture(0)
    for name, own in (("nut", models), ("bolt", models[:2])):
        each = [float(alone(encoder, model).predict([image], [name]).scores[0]) for model in own]
        detector.thresholds[name] = calibrate_across(name, each, list(range(len(own))), ASKED)
    both = detector.predict([image, image], ["nut", "bolt"]).scores
    singly = [detector.predict([image], [name]).scores[0] for name in ("nut", "bolt")]
    np.testing.assert_allclose(both, singly, atol=1e-6)
    with pytest.raises(UserError, match="category 'gear' has no model"):
        detector.predict([image], ["gear"])


def test_no_images_are_no_prediction(encoder: Encoder, models: list[Model]) -> None:
    found = calibrated(together(encoder, models), 0.3).predict([], [])
    assert (found.scores.shape, found.maps) == ((0,), [])


def test_a_broken_model_among_the_folds_is_no_verdict(encoder: Encoder, models: list[Model]) -> None:
    broken = untrained(encoder, 7)
    broken.network.prototype_token.data.fill_(float("nan"))
    detector = calibrated(together(encoder, [*models[:2], broken]), 0.3)
    assert np.isnan(detector.predict([picture(0)], ["nut"]).scores[0])


@pytest.fixture
def folder(encoder: Encoder, models: list[Model], tmp_path: Path) -> Path:
    detector = calibrated(together(encoder, models), 0.3)
    detector.seen = SeenImages.of_folds({"a" * 64: 2, "0" * 64: BY_ALL})
    detector.save(tmp_path / "detector")
    return tmp_path / "detector"


def test_a_loaded_detector_is_the_one_that_was_saved(encoder: Encoder, models: list[Model], folder: Path) -> None:
    loaded, saved = Detector.load(folder), calibrated(together(encoder, models), 0.3)
    one, other = (made.predict([picture(0)], ["nut"]) for made in (loaded, saved))
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.maps[0], other.maps[0])
    assert loaded.thresholds == saved.thresholds
    assert loaded.seen is not None
    assert loaded.seen.fold_of(["a" * 64, "b" * 64, "0" * 64]) == [2, None, BY_ALL]
    assert loaded.models == {}


def test_a_folder_of_before_there_were_folds_is_read(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "old")
    edit(tmp_path / "old" / CONFIG_FILE, lambda values: values.pop("folds"))
    edit(tmp_path / "old" / CALIBRATION_FILE, lambda values: [one.pop("cross") for one in values.values()])
    loaded = Detector.load(tmp_path / "old")
    assert loaded.thresholds == detector.thresholds
    assert (set(loaded.models), loaded.folds) == ({ALL}, {})


def test_thresholds_of_more_folds_than_models_are_refused(folder: Path) -> None:
    edit(folder / CALIBRATION_FILE, lambda values: values["nut"]["cross"]["folds"].__setitem__(0, FOLDS))
    with pytest.raises(UserError, match=rf"^{folder / CALIBRATION_FILE}.*{FOLDS + 1} folds for nut"):
        Detector.load(folder)


def test_a_threshold_of_folds_without_their_models_is_refused(folder: Path, detector: Detector, tmp_path: Path) -> None:
    """It would be held against the score of one model, which promises nothing."""
    detector.save(tmp_path / "one")
    (tmp_path / "one" / CALIBRATION_FILE).write_text((folder / CALIBRATION_FILE).read_text())
    with pytest.raises(UserError, match=rf"^{tmp_path / 'one' / CALIBRATION_FILE}"):
        Detector.load(tmp_path / "one")


@pytest.mark.parametrize("folds", [[FOLDS, FOLDS], [0], [FOLDS + 1], [FOLDS - 1]])
def test_numbers_of_folds_that_are_not_those_of_the_tensors_are_refused(folder: Path, folds: list[int]) -> None:
    edit(folder / CONFIG_FILE, lambda values: values.__setitem__("folds", folds))
    with pytest.raises(UserError, match=rf"^{folder}"):
        Detector.load(folder)


def test_what_is_written_of_a_threshold_is_plain(folder: Path) -> None:
    values = json.loads((folder / CALIBRATION_FILE).read_text())["nut"]
    assert set(values["cross"]) == {"folds", "allowed"}
    assert values == json.loads(json.dumps(asdict(Detector.load(folder).thresholds["nut"])))


def test_the_encoder_runs_once_however_many_folds_judge(
    encoder: Encoder, models: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = calibrated(together(encoder, models), 0.3)
    counted: list[int] = []
    features = encoder.features
    monkeypatch.setattr(encoder, "features", lambda pixels: counted.append(len(pixels)) or features(pixels))
    detector.predict([picture(0), Image.new("L", (40, 40))], ["nut", "nut"])
    assert counted == [1, 1]  # a view at a time on a CPU
