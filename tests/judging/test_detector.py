"""The detector as one thing: saved, loaded, asked; and every way in which its folder can be wrong."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from inpformer.encoders.encoder import Encoder
from inpformer.errors import BrokenScoreError, UserError
from inpformer.images.deep import WHITE
from inpformer.judging.detector import CALIBRATION_FILE, CONFIG_FILE, MODEL_FILE, Detector
from inpformer.judging.learnt import ALL
from tests.conftest import INP_FORMER, MULTI, OWN, limits, untrained
from tests.images.deep_files import png, rule, tiff
from tests.images.deep_files import values as noise

NO_LOOK = np.zeros(0, np.float32)  # nobody knows what good pictures look like


def picture(seed: int, size: tuple[int, int] = (90, 60)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(detector: Detector, tmp_path: Path) -> Path:
    detector.save(tmp_path / "detector")
    return tmp_path / "detector"


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def refused(folder: Path, file: str, words: str) -> None:
    with pytest.raises(UserError, match=rf"^{folder / file}.*{words}"):
        Detector.load(folder)


def test_a_loaded_detector_is_the_one_that_was_saved(detector: Detector, folder: Path) -> None:
    loaded = Detector.load(folder)
    images = [picture(0), picture(1)]
    before, after = detector.predict(images, ["nut"] * len(images)), loaded.predict(images, ["nut"] * len(images))
    np.testing.assert_array_equal(after.maps, before.maps)
    np.testing.assert_array_equal(after.scores, before.scores)
    assert loaded.thresholds == detector.thresholds
    assert (loaded.method, loaded.settings, loaded.learnt_from, loaded.tiling) == (
        detector.method,
        detector.settings,
        detector.learnt_from,
        None,
    )
    assert loaded.encoder.key == detector.encoder.key


def seeing(detector: Detector, white: int) -> Detector:
    """The same with another white."""
    encoder = detector.encoder
    settings, transform = replace(encoder.settings, white=white), replace(encoder.transform, white=white)
    other = Encoder(settings, encoder.network, transform)
    return Detector(other, detector.method, detector.settings, detector.models, MULTI, detector.thresholds)


@pytest.mark.parametrize("white", [WHITE, 4095])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_of_sixteen_bits_scores_as_what_the_rule_makes_of_it(
    detector: Detector, tmp_path: Path, white: int, channels: int
) -> None:
    seeing(detector, white).save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector")  # nobody tells it
    found = noise(50, 70, channels, most=4095)
    (tmp_path / "a.png").write_bytes(png(found))
    images = [Image.fromarray(rule(found, white)), loaded.open(tmp_path / "a.png"), loaded.open(tiff(found, ">"), "it")]
    scores = loaded.predict(images, ["nut"] * 3).scores.tolist()
    assert len(set(scores)) == 1
    (other,) = loaded.predict([Image.fromarray(rule(found, 2 * white // 3))], ["nut"]).scores.tolist()
    assert abs(other - scores[0]) > 1e-4


def test_a_detector_of_before_white_was_a_setting_takes_all_sixteen_bits(folder: Path) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    assert config["encoder"].pop("white") == WHITE
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    loaded = Detector.load(folder)
    assert loaded.encoder.settings.white == loaded.encoder.transform.white == WHITE
    found = noise(50, 70)
    np.testing.assert_array_equal(np.asarray(loaded.open(png(found), "it")), rule(found, WHITE))


def test_an_impossible_white_in_a_detector_is_refused(folder: Path) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    for wrong in (0, 65536, "4095", None):
        config["encoder"]["white"] = wrong
        (folder / CONFIG_FILE).write_text(json.dumps(config))
        refused(folder, CONFIG_FILE, r"encoder\.white is ")


def test_the_folder_holds_three_files_and_no_pickle(folder: Path) -> None:
    assert {p.name for p in folder.iterdir()} == {MODEL_FILE, CONFIG_FILE, CALIBRATION_FILE}
    assert {name.split(".")[0] for name in load_file(folder / MODEL_FILE)} == {"0:network", "0:projection"}
    assert all(isinstance(json.loads((folder / name).read_text()), dict) for name in (CONFIG_FILE, CALIBRATION_FILE))


def test_a_prediction_is_a_score_and_a_map_an_image(detector: Detector) -> None:
    prediction = detector.predict([picture(0), picture(1, (30, 200)), picture(2).convert("L")], ["nut", "bolt", "nut"])
    maps = np.stack(prediction.maps)
    assert maps.shape == (3, 256, 256)
    largest = np.sort(maps.reshape(3, -1), axis=1)[:, -655:]
    np.testing.assert_allclose(prediction.scores, largest.mean(axis=1), rtol=1e-5)


def test_scores_do_not_depend_on_batch_mates(detector: Detector) -> None:
    images = [picture(seed) for seed in range(4)]
    together = detector.predict(images, ["nut"] * len(images)).scores
    alone = [float(detector.predict([image], ["nut"]).scores[0]) for image in images]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.ptp(together) > 1e-4


def test_a_score_above_the_threshold_fails_with_regions(detector: Detector) -> None:
    prediction = detector.predict([picture(0)], ["nut"])
    decision = detector.decide(float(prediction.scores[0]), prediction.maps[0], prediction.looks[0], (90, 60), "nut")
    assert (decision.decision, decision.threshold.threshold, decision.p_value) == ("FAIL", 0.0, 0.01)
    assert decision.regions[0].peak == pytest.approx(prediction.maps[0].max())
    assert all(0 <= r.box[0] < r.box[2] <= 90 and 0 <= r.box[1] < r.box[3] <= 60 for r in decision.regions)


def test_a_score_at_or_below_the_threshold_passes_without_regions(detector: Detector) -> None:
    anomaly_map = np.full((256, 256), 3, np.float32)
    for score in (1.0, 2.0):
        decision = detector.decide(score, anomaly_map, NO_LOOK, (90, 60), "bolt")
        assert (decision.decision, decision.threshold.threshold, decision.regions) == ("PASS", 2.0, [])


def test_an_unknown_category_is_refused_with_the_known_ones(detector: Detector) -> None:
    with pytest.raises(UserError, match=r"category 'gear' is not one .*calibrated for: bolt, nut\."):
        detector.decide(1.0, np.zeros((256, 256), np.float32), NO_LOOK, (90, 60), "gear")


def test_between_the_thresholds_a_person_looks(detector: Detector) -> None:
    detector.thresholds["nut"] = limits(0.6, review=0.4)
    anomaly_map = np.zeros((256, 256), np.float32)
    anomaly_map[:8, :8] = 0.5
    decision = detector.decide(0.5, anomaly_map, NO_LOOK, (256, 256), "nut")
    assert (decision.decision, [region.box for region in decision.regions]) == ("REVIEW", [(0, 0, 8, 8)])


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_an_error_and_no_verdict(detector: Detector, broken: float) -> None:
    with pytest.raises(BrokenScoreError):
        detector.decide(broken, np.zeros((256, 256), np.float32), NO_LOOK, (256, 256), "bolt")


def test_the_setting_alone_decides_how_it_scores(detector: Detector, tmp_path: Path) -> None:
    usual = detector.predict([picture(0)], ["nut"]).maps
    learnt_from = replace(MULTI, setting="zero-shot")
    detector = Detector(detector.encoder, INP_FORMER, OWN, detector.models, learnt_from, detector.thresholds)
    zero_shot = detector.predict([picture(0)], ["nut"]).maps
    detector.save(tmp_path / "zero-shot")
    loaded = Detector.load(tmp_path / "zero-shot")
    assert loaded.learnt_from.setting == "zero-shot"
    np.testing.assert_array_equal(loaded.predict([picture(0)], ["nut"]).maps, zero_shot)
    assert np.abs(zero_shot[0] - usual[0]).max() > 1e-3


def test_with_a_model_a_category_each_image_meets_its_own(encoder: Encoder, tmp_path: Path) -> None:
    models = {"nut": untrained(encoder, 1), "bolt": untrained(encoder, 2)}
    learnt_from = replace(MULTI, setting="single-class")
    images, categories = [picture(0), picture(1), picture(2)], ["nut", "bolt", "nut"]
    Detector(encoder, INP_FORMER, OWN, models, learnt_from, {}).save(tmp_path / "both")
    both = Detector.load(tmp_path / "both")
    alone = {c: Detector(encoder, INP_FORMER, OWN, {ALL: m}, MULTI, {}) for c, m in models.items()}
    wanted = [float(alone[c].predict([i], [c]).scores[0]) for i, c in zip(images, categories, strict=True)]
    np.testing.assert_allclose(both.predict(images, categories).scores, wanted, atol=1e-6)
    assert abs(wanted[0] - float(alone["bolt"].predict([picture(0)], ["bolt"]).scores[0])) > 1e-4
    with pytest.raises(UserError, match="category 'gear' has no model in this single-class detector: it knows bolt, n"):
        both.predict([picture(0)], ["gear"])


def test_no_category_name_mixes_up_the_models(encoder: Encoder, tmp_path: Path) -> None:
    models = {name: untrained(encoder, seed) for seed, name in enumerate(["a", "a:b", "0", "ä/ö"])}
    learnt_from = replace(MULTI, setting="single-class")
    made = Detector(encoder, INP_FORMER, OWN, models, learnt_from, {})
    made.save(tmp_path / "odd")
    loaded, images = Detector.load(tmp_path / "odd"), [picture(0)] * len(models)
    np.testing.assert_array_equal(loaded.predict(images, [*models]).scores, made.predict(images, [*models]).scores)


@pytest.mark.parametrize("file", [MODEL_FILE, CONFIG_FILE, CALIBRATION_FILE])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    refused(folder, file, "cannot be read .*fetch or train the detector again")


@pytest.mark.parametrize("file", [MODEL_FILE, CONFIG_FILE, CALIBRATION_FILE])
@pytest.mark.parametrize("length", [0, 100])
def test_a_truncated_file_is_named(folder: Path, file: str, length: int) -> None:
    (folder / file).write_bytes((folder / file).read_bytes()[:length])
    refused(folder, file, "(cannot be read|another sha256).*fetch or train the detector again")


def test_a_single_flipped_bit_is_noticed(folder: Path) -> None:
    content = bytearray((folder / MODEL_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / MODEL_FILE).write_bytes(content)
    refused(folder, MODEL_FILE, f"another sha256 than {CONFIG_FILE} says")


@pytest.mark.parametrize("file", [CONFIG_FILE, CALIBRATION_FILE])
def test_json_of_another_kind_is_named(folder: Path, file: str) -> None:
    (folder / file).write_text("[1, 2]")
    refused(folder, file, "is not a table")


def test_another_format_version_is_refused(folder: Path) -> None:
    edit(folder / CONFIG_FILE, lambda config: config.update(format_version=2))
    refused(folder, CONFIG_FILE, "format_version 2, this program reads 3")


def test_an_unknown_setting_is_refused(folder: Path) -> None:
    edit(folder / CONFIG_FILE, lambda config: config["learnt_from"].update(setting="few-shot"))
    refused(folder, CONFIG_FILE, "setting is 'few-shot': it must be multi-class, single-class")


def test_another_encoder_is_refused(folder: Path, detector: Detector) -> None:
    edit(folder / CONFIG_FILE, lambda config: config.update(encoder_digest="0" * 64))
    words = f"wants the encoder 000000000000, but .* is {detector.encoder.digest[:12]}: give the weights"
    refused(folder, CONFIG_FILE, words)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda config: config["settings"].update(num_prototypes=5), "prototype_token"),
        (lambda config: config["settings"].update(channels=16), r"\S+"),
    ],
)
def test_sizes_that_do_not_fit_the_tensors_are_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], name: str
) -> None:
    edit(folder / CONFIG_FILE, change)
    refused(folder, MODEL_FILE, f"{name} is .*, but should be .*: the file does not belong to this model")


def test_a_tensor_too_few_is_refused(folder: Path) -> None:
    tensors = load_file(folder / MODEL_FILE)
    del tensors["0:network.bottleneck.fc1.bias"]
    save_file(tensors, folder / MODEL_FILE)
    digest = hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()
    edit(folder / CONFIG_FILE, lambda config: config.update(model_sha256=digest))
    refused(folder, MODEL_FILE, r"bottleneck\.fc1\.bias is missing, but should be")


def test_a_broken_threshold_is_named(folder: Path) -> None:
    edit(folder / CALIBRATION_FILE, lambda thresholds: thresholds["nut"].update(threshold="high"))
    refused(folder, CALIBRATION_FILE, r"nut\.threshold is 'high': it must be a number")


def test_a_threshold_that_is_no_number_is_named(folder: Path) -> None:
    edit(folder / CALIBRATION_FILE, lambda thresholds: thresholds["nut"].update(threshold=float("nan")))
    refused(folder, CALIBRATION_FILE, r"nut\.threshold is nan")


def test_the_encoders_weights_may_lie_elsewhere_on_this_machine(folder: Path) -> None:
    with pytest.raises(UserError, match=r"encoder weights /elsewhere/w\.safetensors is no file"):
        Detector.load(folder, encoder_weights="/elsewhere/w.safetensors")
