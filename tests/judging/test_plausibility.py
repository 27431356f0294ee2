"""Whether a picture shows what it is said to show."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save

from demo.data.render import CATEGORIES, render
from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from inpformer.judging import plausibility
from inpformer.judging.detector import CONFIG_FILE, Detector
from inpformer.judging.plausibility import FAR, MOST_PARTS, PLAUSIBILITY_FILE, Look, Plausibility


def looks(count: int, seed: int = 0, centre: float = 0.0) -> Look:
    return (np.random.default_rng(seed).normal(size=(count, 3)) + centre).astype(np.float32)


def test_a_look_is_the_mean_and_the_spread_of_each_channel() -> None:
    groups = [torch.randn(2, 9, 4), torch.randn(2, 4, 3)]
    found = plausibility.look(groups).numpy()
    wanted = [[half for g in groups for half in (g[n].numpy().mean(axis=0), g[n].numpy().std(axis=0))] for n in (0, 1)]
    np.testing.assert_allclose(found, [np.concatenate(own) for own in wanted], atol=1e-6)


@pytest.mark.parametrize("far", [1.0, FAR])
def test_of_good_pictures_at_most_one_in_n_and_one_is_doubted(far: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a law with heavy tails, where outliers are usual: 4000 lines of n held-out pictures and a next one."""
    monkeypatch.setattr(plausibility, "FAR", far)
    rng, n, lines = np.random.default_rng(0), 9, 4000
    doubted = 0
    for _ in range(lines):
        all_ = rng.standard_t(1.5, (n + 1, 3)).astype(np.float32)
        doubted += Plausibility({"nut": all_[:n]}).doubt(all_[n], "nut") is not None
    assert 0 < doubted / lines < 1 / (n + 1) + 3 * (0.1 * 0.9 / lines) ** 0.5
    if far == 1:  # it is the farthest of all exactly so often
        assert doubted / lines > 1 / (n + 1) - 3 * (0.1 * 0.9 / lines) ** 0.5


def test_a_doubt_says_how_far_it_is_and_what_it_looks_like() -> None:
    nut = np.array([[0, 0], [1, 0], [2, 0], [3, 0], [4, 0]], np.float32)  # each 1 from the next
    known = Plausibility({"nut": nut, "bolt": nut + np.float32([0, 50])})
    assert known.doubt(np.float32([4, 1.4]), "nut") is None
    found = known.doubt(np.float32([4, 3]), "nut")
    assert found is not None
    assert (found.category, found.times, found.likelier) == ("nut", 3.0, None)
    found = known.doubt(np.float32([1, 50]), "nut")
    assert found is not None
    assert (found.times, found.likelier) == (50.0, "bolt")
    assert "bolt" in found.reason
    assert known.doubt(np.float32([99, 99]), "gear") is None


def test_of_few_parts_nothing_is_said_and_of_many_some_are_drawn() -> None:
    known = Plausibility.of({"few": looks(9), "ten": looks(10), "many": looks(1000)})
    assert {name: len(own) for name, own in known.looks.items()} == {"ten": 10, "many": MOST_PARTS}
    many = {tuple(row) for row in looks(1000).tolist()}
    assert len({tuple(row) for row in known.looks["many"].tolist()} & many) == MOST_PARTS
    assert known.looks["many"][-1].tolist() not in looks(MOST_PARTS).tolist()


def test_pictures_that_are_all_alike_are_doubted_by_nothing_but_rounding() -> None:
    same = np.full((6, 3), 100, np.float32)
    known = Plausibility({"nut": same})
    assert known.doubt(same[0] + np.float32(1e-5), "nut") is None
    assert known.doubt(same[0] + 1, "nut") is not None


def picture(kind: str, seed: int) -> Image.Image:
    return Image.fromarray(render(kind, None, [seed], 96)[0])


def taught(encoder: Encoder, make: Callable[[], Detector]) -> Detector:
    detector = make()
    good = {kind: [picture(kind, seed) for seed in range(12)] for kind in CATEGORIES}
    detector.plausibility = Plausibility.of(
        {kind: detector.predict(own, ["nut"] * len(own)).looks for kind, own in good.items()}
    )
    return detector


def test_products_are_told_apart_and_so_is_a_dark_or_blurred_picture(encoder: Encoder, detector: Detector) -> None:
    known = taught(encoder, lambda: detector).plausibility
    for kind in CATEGORIES:
        new = [picture(kind, seed) for seed in range(100, 104)]
        for look in detector.predict(new, ["nut"] * len(new)).looks:
            for asked in CATEGORIES:
                doubt = known.doubt(look, asked)
                assert (doubt is None) == (asked == kind)
                assert doubt is None or doubt.likelier == kind
        black, blurred = Image.new("RGB", (96, 96)), new[0].resize((6, 6)).resize((96, 96))
        for look in detector.predict([black, blurred], ["nut", "nut"]).looks:
            found = known.doubt(look, kind)
            assert found is not None
            assert found.likelier is None


def test_what_would_pass_is_reviewed_and_what_fails_fails(detector: Detector) -> None:
    flat, anomalous = np.zeros((256, 256), np.float32), np.full((256, 256), 3, np.float32)
    detector.plausibility = Plausibility({"nut": looks(12), "bolt": looks(12)})
    near, far = looks(1)[0], looks(1, centre=1000)[0]
    usual = detector.decide(1.0, flat, near, (90, 60), "bolt")
    assert (usual.decision, usual.doubt) == ("PASS", None)
    doubted = detector.decide(1.0, flat, far, (90, 60), "bolt")
    assert (doubted.decision, doubted.regions) == ("REVIEW", [])
    assert doubted.doubt is not None
    failed = detector.decide(1.0, anomalous, far, (90, 60), "nut")
    assert failed.decision == "FAIL"
    assert failed.regions
    assert failed.doubt is not None


def test_it_is_saved_with_the_detector(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "without")
    assert Detector.load(tmp_path / "without").plausibility.looks == {}
    detector.plausibility = Plausibility({"nut": looks(12), "__metadata__": looks(10, seed=1), "set/nut": looks(11)})
    detector.save(tmp_path / "with")
    loaded = Detector.load(tmp_path / "with").plausibility.looks
    assert sorted(loaded) == ["__metadata__", "nut", "set/nut"]
    np.testing.assert_array_equal(loaded["nut"], looks(12))


def test_a_file_that_is_gone_damaged_or_another_is_refused(detector: Detector, tmp_path: Path) -> None:
    detector.plausibility = Plausibility({"nut": looks(12)})
    folder = tmp_path / "detector"
    detector.save(folder)
    file, whole = folder / PLAUSIBILITY_FILE, (folder / PLAUSIBILITY_FILE).read_bytes()
    Plausibility({"nut": looks(12, seed=2)}).save(file)
    with pytest.raises(UserError, match=f"{file} has another sha256"):
        Detector.load(folder)
    file.unlink()
    with pytest.raises(UserError, match=f"{file} cannot be read"):
        Detector.load(folder)
    for content in (whole[:-7], b"{}"):
        file.write_bytes(content)
        values = json.loads((folder / CONFIG_FILE).read_text())
        values["plausibility_sha256"] = hashlib.sha256(content).hexdigest()
        (folder / CONFIG_FILE).write_text(json.dumps(values))
        with pytest.raises(UserError, match=f"^{file} "):
            Detector.load(folder)


@pytest.mark.parametrize("wrong", [np.zeros((12, 3)), np.zeros((9, 3), np.float32), np.zeros(12, np.float32)])
def test_tensors_that_are_no_looks_are_refused(wrong: Look, tmp_path: Path) -> None:
    for tensors in ({"look:nut": wrong}, {"nut": looks(12)}):
        file = tmp_path / "looks"
        file.write_bytes(save(tensors))
        with pytest.raises(UserError, match=f"^{file} holds no looks"):
            Plausibility.load(file, hashlib.sha256(file.read_bytes()).hexdigest())
