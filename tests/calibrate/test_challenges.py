"""Which pictures calibrate gives to a detector."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from inpformer.encoders.encoder import Encoder
from inpformer.judging.challenge import check_challenges
from inpformer.judging.detector import Detector
from pipelines.calibrate import challenges as module
from pipelines.calibrate.challenges import challenges
from pipelines.calibrate.held_out import GoodImage
from tests.conftest import limits
from tests.images.deep_files import png, rule, values
from tests.serving.pictures import as_file, picture


@pytest.fixture
def images(tmp_path: Path) -> list[GoodImage]:
    """Three of nuts, two of bolts."""
    made = []
    for number in range(5):
        content = as_file(picture(number))
        file = tmp_path / f"{number}.png"
        file.write_bytes(content)
        made.append(GoodImage(file, "nut" if number < 3 else "bolt", hashlib.sha256(content).hexdigest(), ""))
    return made


def test_the_nearest_to_its_threshold_of_each_category(detector: Detector, images: list[GoodImage]) -> None:
    detector.thresholds |= {"pin": limits(1.0)}  # of which there is no image
    found = challenges(detector, images, [-3.0, 0.5, -1.0, 0.0, 1.9])
    assert [(one.category, one.content) for one in found] == [
        ("bolt", images[4].path.read_bytes()),
        ("nut", images[1].path.read_bytes()),
    ]
    assert [one.score for one in found] == [
        float(detector.predict([picture(seed)], [name]).scores[0]) for seed, name in ((4, "bolt"), (1, "nut"))
    ]
    detector.challenges = found
    assert check_challenges(detector) == 2


def test_pictures_of_twelve_bits_are_seen_by_the_detectors_white(detector: Detector, tmp_path: Path) -> None:
    deep = values(60, 90) // 16
    file = tmp_path / "deep.png"
    file.write_bytes(png(deep))
    one = detector.encoder
    detector.encoder = Encoder(replace(one.settings, white=4095), one.network, replace(one.transform, white=4095))
    (found,) = challenges(detector, [GoodImage(file, "nut", "0" * 64, "")], [0.0])
    seen = detector.predict([Image.fromarray(rule(deep, 4095))], ["nut"]).scores[0]
    assert found.score == float(seen)
    detector.challenges = (found,)
    assert check_challenges(detector) == 1


@pytest.mark.parametrize(("bound", "most"), [("MOST_PICTURES", 1), ("MOST_VIEWS", 1), ("MOST_BYTES", 17_000)])
def test_they_are_bounded(
    detector: Detector, images: list[GoodImage], monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    assert 8_500 < images[0].path.stat().st_size < 17_000
    monkeypatch.setattr(module, bound, most)
    assert [one.category for one in challenges(detector, images, [0.0] * 5)] == ["bolt"]
