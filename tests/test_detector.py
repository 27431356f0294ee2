"""The detector as one thing: saved, loaded, asked; and every way in which its folder can be wrong."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from inpformer.detector import CALIBRATION_FILE, CONFIG_FILE, MODEL_FILE, Detector
from inpformer.errors import UserError


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
    before, after = detector.predict(images), loaded.predict(images)
    np.testing.assert_array_equal(after.maps, before.maps)
    np.testing.assert_array_equal(after.scores, before.scores)
    assert loaded.thresholds == detector.thresholds
    assert (loaded.losses, loaded.scoring, loaded.encoder.key) == (
        *(detector.losses, "reconstruction"),
        detector.encoder.key,
    )


def test_the_folder_holds_three_files_and_no_pickle(folder: Path) -> None:
    assert {p.name for p in folder.iterdir()} == {MODEL_FILE, CONFIG_FILE, CALIBRATION_FILE}
    assert {name.split(".")[0] for name in load_file(folder / MODEL_FILE)} == {"model", "projection"}
    assert all(isinstance(json.loads((folder / name).read_text()), dict) for name in (CONFIG_FILE, CALIBRATION_FILE))


def test_a_prediction_is_a_score_and_a_map_an_image(detector: Detector) -> None:
    prediction = detector.predict([picture(0), picture(1, (30, 200)), picture(2).convert("L")])
    assert prediction.maps.shape == (3, 256, 256)
    largest = np.sort(prediction.maps.reshape(3, -1), axis=1)[:, -655:]
    np.testing.assert_allclose(prediction.scores, largest.mean(axis=1), rtol=1e-5)


def test_scores_do_not_depend_on_batch_mates(detector: Detector) -> None:
    images = [picture(seed) for seed in range(4)]
    together = detector.predict(images).scores
    alone = [float(detector.predict([image]).scores[0]) for image in images]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.ptp(together) > 1e-4


def test_a_score_above_the_threshold_fails_with_regions(detector: Detector) -> None:
    prediction = detector.predict([picture(0)])
    decision = detector.decide(picture(0), float(prediction.scores[0]), prediction.maps[0], "nut")
    assert (decision.decision, decision.threshold) == ("FAIL", 0.0)
    assert decision.regions[0].peak == pytest.approx(prediction.maps[0].max())
    assert all(0 <= r.box[0] < r.box[2] <= 90 and 0 <= r.box[1] < r.box[3] <= 60 for r in decision.regions)


def test_a_score_at_or_below_the_threshold_passes_without_regions(detector: Detector) -> None:
    anomaly_map = np.full((256, 256), 3, np.float32)
    for score in (1.0, 2.0):
        decision = detector.decide(picture(0), score, anomaly_map, "bolt")
        assert (decision.decision, decision.threshold, decision.regions) == ("PASS", 2.0, [])


def test_an_unknown_category_is_refused_with_the_known_ones(detector: Detector) -> None:
    with pytest.raises(UserError, match=r"category 'gear' is not one .*calibrated for: bolt, nut\."):
        detector.decide(picture(0), 1.0, np.zeros((256, 256), np.float32), "gear")


def test_zero_shot_scoring_survives_the_round_trip(detector: Detector, tmp_path: Path) -> None:
    usual = detector.predict([picture(0)]).maps
    detector.scoring = "zero-shot"
    zero_shot = detector.predict([picture(0)]).maps
    detector.save(tmp_path / "zero-shot")
    loaded = Detector.load(tmp_path / "zero-shot")
    assert loaded.scoring == "zero-shot"
    np.testing.assert_array_equal(loaded.predict([picture(0)]).maps, zero_shot)
    assert np.abs(zero_shot - usual).max() > 1e-3


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
    refused(folder, CONFIG_FILE, "format_version 2, this program reads 1")


def test_an_unknown_scoring_is_refused(folder: Path) -> None:
    edit(folder / CONFIG_FILE, lambda config: config.update(scoring="few-shot"))
    refused(folder, CONFIG_FILE, "scoring is 'few-shot': it must be reconstruction or zero-shot")


def test_another_encoder_is_refused(folder: Path, detector: Detector) -> None:
    edit(folder / CONFIG_FILE, lambda config: config.update(encoder_digest="0" * 64))
    words = f"wants the encoder 000000000000, but .* is {detector.encoder.digest[:12]}: give the weights"
    refused(folder, CONFIG_FILE, words)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda config: config["model"].update(num_prototypes=5), "prototype_token"),
        (lambda config: config["model"].update(channels=16), r"\S+"),
        (lambda config: config.update(encoder_channels=7), "matrix"),
    ],
)
def test_sizes_that_do_not_fit_the_tensors_are_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], name: str
) -> None:
    edit(folder / CONFIG_FILE, change)
    refused(folder, MODEL_FILE, f"{name} does not fit {CONFIG_FILE}: the two files are not of one detector")


def test_a_tensor_too_few_is_refused(folder: Path) -> None:
    tensors = load_file(folder / MODEL_FILE)
    del tensors["model.bottleneck.fc1.bias"]
    save_file(tensors, folder / MODEL_FILE)
    digest = hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()
    edit(folder / CONFIG_FILE, lambda config: config.update(model_sha256=digest))
    refused(folder, MODEL_FILE, r"bottleneck\.fc1\.bias does not fit")


def test_a_broken_threshold_is_named(folder: Path) -> None:
    edit(folder / CALIBRATION_FILE, lambda thresholds: thresholds["nut"].update(threshold="high"))
    refused(folder, CALIBRATION_FILE, r"nut\.threshold is 'high': it must be a number")


def test_a_threshold_that_is_no_number_is_named(folder: Path) -> None:
    edit(folder / CALIBRATION_FILE, lambda thresholds: thresholds["nut"].update(threshold=float("nan")))
    refused(folder, CALIBRATION_FILE, r"nut\.threshold is nan: it must be a finite number")


def test_the_encoders_weights_may_lie_elsewhere_on_this_machine(folder: Path) -> None:
    with pytest.raises(UserError, match=r"encoder weights /elsewhere/w\.safetensors is no file"):
        Detector.load(folder, encoder_weights="/elsewhere/w.safetensors")
