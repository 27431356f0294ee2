"""The record of training images: what it knows again, and every way in which its file can be wrong."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from inpformer.errors import UserError
from inpformer.judging.detector import CONFIG_FILE, SEEN_FILE, Detector
from inpformer.judging.seen import NAME, SeenImages


def digests(first: int, last: int) -> list[str]:
    return [hashlib.sha256(str(n).encode()).hexdigest() for n in range(first, last)]


def test_it_knows_its_images_again_and_no_others() -> None:
    seen = SeenImages.of(digests(0, 1000))
    assert len(seen) == 1000
    assert seen.overlap(digests(995, 1005)) == [0, 1, 2, 3, 4]
    assert seen.overlap([*digests(2000, 2003), *digests(7, 8)]) == [3]
    assert seen.overlap([]) == []
    assert SeenImages.of([]).overlap(digests(0, 3)) == []


def test_copies_count_once_and_an_image_takes_eight_bytes(tmp_path: Path) -> None:
    seen = SeenImages.of([*digests(0, 5000), *digests(0, 5000)])
    sha256 = seen.save(tmp_path / SEEN_FILE)
    assert (tmp_path / SEEN_FILE).stat().st_size < 5000 * 8 + 200
    np.testing.assert_array_equal(SeenImages.load(tmp_path / SEEN_FILE, sha256).starts, seen.starts)


def test_a_detector_keeps_its_record(detector: Detector, tmp_path: Path) -> None:
    assert detector.seen is None
    detector.save(tmp_path / "unknown")
    assert Detector.load(tmp_path / "unknown").seen is None
    detector.seen = SeenImages.of(digests(0, 7))
    detector.save(tmp_path / "known")
    loaded = Detector.load(tmp_path / "known").seen
    assert loaded is not None
    assert loaded.overlap(digests(6, 8)) == [0]


@pytest.fixture
def folder(detector: Detector, tmp_path: Path) -> Path:
    detector.seen = SeenImages.of(digests(0, 7))
    detector.save(tmp_path / "detector")
    return tmp_path / "detector"


@pytest.mark.parametrize("content", [None, b"", SeenImages.of(digests(0, 6)).starts.tobytes()])
def test_another_file_in_its_place_is_refused(folder: Path, content: bytes | None) -> None:
    if content is None:
        (folder / SEEN_FILE).unlink()
    else:
        (folder / SEEN_FILE).write_bytes(content)
    with pytest.raises(UserError, match=rf"^{folder / SEEN_FILE}"):
        Detector.load(folder)


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {NAME: np.array([3, 1], np.uint64)},
        {NAME: np.array([1, 3], np.int64)},
        {NAME: np.array([[1, 3]], np.uint64)},
    ],
)
def test_what_is_no_record_is_refused(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    (folder / SEEN_FILE).write_bytes(save(tensors))
    config = json.loads((folder / CONFIG_FILE).read_text())
    config["seen_sha256"] = hashlib.sha256((folder / SEEN_FILE).read_bytes()).hexdigest()
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(UserError, match=rf"^{folder / SEEN_FILE}"):
        Detector.load(folder)
