"""A detector scores the pictures that go with it as it did, or is not served."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file

from inpformer.errors import UserError
from inpformer.judging.challenge import (
    ALLOWED,
    CHALLENGE_FILE,
    SCORES,
    Challenge,
    check_challenges,
    load_challenges,
    save_challenges,
)
from inpformer.judging.detector import CONFIG_FILE, Detector
from inpformer.judging.learnt import ALL
from tests.serving.pictures import as_file, picture


def challenged(detector: Detector, off: float = 0.0) -> Detector:
    """With a picture of each category, whose scores are so far off as shares of what is allowed."""
    made = []
    for seed, (category, limits) in enumerate(detector.thresholds.items()):
        score = float(detector.predict([picture(seed)], [category]).scores[0])
        made.append(Challenge(as_file(picture(seed)), category, score + off * ALLOWED * limits.usual_distance))
    detector.challenges = tuple(made)
    return detector


def test_they_are_saved_with_the_detector(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "without")
    assert Detector.load(tmp_path / "without").challenges == ()
    assert check_challenges(detector) == 0
    challenged(detector).save(tmp_path / "with")
    loaded = Detector.load(tmp_path / "with")
    assert loaded.challenges == detector.challenges
    assert check_challenges(loaded) == 2


def test_a_categorys_name_may_be_any_text(tmp_path: Path) -> None:
    made = [Challenge(bytes([n]), name, n / 3) for n, name in enumerate(["a:b", SCORES, "", "0:", "Größe/../x"])]
    made += [Challenge(b"x" * n, "a", n / 7) for n in range(1, 8)]  # more than ten: "10" is no second one
    sha256 = save_challenges(made, tmp_path / CHALLENGE_FILE)
    assert load_challenges(tmp_path / CHALLENGE_FILE, sha256) == tuple(made)


@pytest.mark.parametrize(("off", "right"), [(0.9, True), (-0.9, True), (1.1, False), (-1.1, False), (np.nan, False)])
def test_a_score_may_be_off_by_what_another_device_rounds(detector: Detector, off: float, right: bool) -> None:
    challenged(detector, off)
    if right:
        assert check_challenges(detector) == 2
    else:
        with pytest.raises(UserError, match="nut"):
            check_challenges(detector)


def test_another_model_is_found(detector: Detector) -> None:
    detector.thresholds = {
        c: t.__class__(t.threshold, t.threshold, 0.1, None, 0, (t.threshold,)) for c, t in detector.thresholds.items()
    }
    challenged(detector)
    detector.models[ALL].network.prototype_token.data.mul_(-3.0)
    detector.models[ALL].network.bottleneck.fc2.weight.data.mul_(-1.0)
    with pytest.raises(UserError, match=f"{detector.challenges[0].score:.6g}"):
        check_challenges(detector)


def test_eight_bits_are_not_asked(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    challenged(detector, off=5)
    monkeypatch.setattr(detector.backend, "precision", 8)
    assert check_challenges(detector) == 0


def test_a_category_that_was_taken_away_is_not_asked(detector: Detector) -> None:
    challenged(detector)
    del detector.thresholds["nut"]
    assert check_challenges(detector) == 1


def test_a_file_that_is_damaged_or_holds_something_else_is_refused(detector: Detector, tmp_path: Path) -> None:
    challenged(detector).save(tmp_path / "detector")
    file = tmp_path / "detector" / CHALLENGE_FILE
    tensors = load_file(file)
    wrongs = [
        {SCORES: tensors[SCORES]},
        {**tensors, SCORES: tensors[SCORES].astype(np.float32)},
        {**tensors, "2:nut": np.zeros(3, np.float32)},
        {**{name.replace("1:", "3:"): tensor for name, tensor in tensors.items()}},
        {**tensors, "nut": np.zeros(3, np.uint8)},
        {name: tensor for name, tensor in tensors.items() if name != SCORES},
    ]
    for content in (file.read_bytes()[:-5], b"{}", *(save(wrong) for wrong in wrongs)):
        file.write_bytes(content)
        config = json.loads((tmp_path / "detector" / CONFIG_FILE).read_text())
        config["challenge_sha256"] = hashlib.sha256(content).hexdigest()
        (tmp_path / "detector" / CONFIG_FILE).write_text(json.dumps(config))
        with pytest.raises(UserError, match=f"^{file} "):
            Detector.load(tmp_path / "detector")
    save_file(tensors, file)
    with pytest.raises(UserError, match=f"^{file} has another sha256"):
        Detector.load(tmp_path / "detector")
