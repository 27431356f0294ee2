"""Pictures of one part that the pipeline itself cut apart: one warning a category, which names the way out."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from pipelines.gate.look import look_at_all
from pipelines.gate.page import page
from pipelines.gate.parts import suggest_pattern
from pipelines.gate.similar import BLOCK, _likest, near_duplicates, whiten
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.splits import cut_here, cut_validation
from pipelines.manifest.table import Row
from tests.gate.test_gate import plate, save


def row(number: int, split: str = "train", label: int = 0) -> Row:
    """A made-up image, whose content says nothing of its number."""
    sha256 = np.random.default_rng(number).bytes(32).hex()
    return Row(f"nut/{number}.png", "nut", split, label, "chip" if label else "good", [], 0, 0, 9, 9, sha256, "")


def with_defect(root: Path, test: str = "test") -> None:
    """Adds the defective test image, with its mask, that a data set cannot be without."""
    save(plate(99), root / test / "good/plate99_light1.png")
    save(plate(98), root / test / "dent/plate98_light1.png")
    mask = Image.new("L", (96, 96))
    mask.paste(255, (40, 40, 50, 50))
    truth = root / (f"{test}/ground_truth" if test == "test_public" else "ground_truth")
    save(mask, truth / "dent/plate98_light1_mask.png")


@pytest.fixture
def exposures(tmp_path: Path) -> Path:
    """Thirty plates, each photographed in two lights."""
    for number in range(30):
        picture = plate(number)
        save(picture, tmp_path / f"data/train/good/plate{number:02d}_light1.png")
        save(ImageEnhance.Brightness(picture).enhance(1.2), tmp_path / f"data/train/good/plate{number:02d}_light2.png")
    with_defect(tmp_path / "data")
    return tmp_path / "data"


def test_exposures_that_the_pipeline_cut_apart_are_one_warning_that_names_the_parts(exposures: Path) -> None:
    manifest = build_manifest(exposures, ManifestSettings("unused"))
    (finding,) = near_duplicates(list(manifest.rows), look_at_all(manifest))
    assert (finding.severity, finding.category) == ("warning", manifest.categories[0])
    pairs = list(zip(finding.paths[::2], finding.paths[1::2], strict=True))
    assert len(pairs) >= 6
    assert all(a.split("_light")[0] == b.split("_light")[0] for a, b in pairs)
    assert repr(r"/plate(\d+)_") in finding.text
    assert page(manifest, [finding], ()).count("<img") == 12
    kept = build_manifest(exposures, ManifestSettings("unused", part=r"/plate(\d+)_"))
    assert near_duplicates(list(kept.rows), look_at_all(kept)) == []


def test_a_validation_set_of_the_users_own_keeps_a_warning_a_pair(exposures: Path) -> None:
    for number in range(8):
        name = f"plate{number:02d}_light2.png"
        (exposures / "validation/good").mkdir(parents=True, exist_ok=True)
        (exposures / "train/good" / name).rename(exposures / "validation/good" / name)
    shutil.rmtree(exposures / "test")
    with_defect(exposures, "test_public")
    manifest = build_manifest(exposures, ManifestSettings("unused", layout="mvtec2"))
    findings = near_duplicates(list(manifest.rows), look_at_all(manifest))
    assert [len(f.paths) for f in findings] == [2] * 8
    assert all("validation" in f.paths[0] for f in findings)


def test_only_what_the_pipeline_cut_counts_as_cut_here() -> None:
    rows = [row(n) for n in range(50)]
    cut = cut_validation(rows, 0.2)
    assert cut_here(cut)
    assert cut_here([*cut, row(60, "val", label=1), row(61, "test")])
    own = [replace(one, split="val") if n % 5 == 0 else one for n, one in enumerate(rows)]
    assert not cut_here(own)
    assert not cut_here(rows)


def test_parts_that_the_names_do_not_tell_suggest_no_pattern() -> None:
    paths = [f"train/good/exp{n % 6}_num_{1000 + 7 * n}.jpg" for n in range(60)]
    assert suggest_pattern(paths, [(paths[n], paths[n + 1]) for n in range(0, 60, 2)]) is None
    same_light = [(paths[n], paths[n + 6]) for n in range(6)]
    assert suggest_pattern(paths, same_light) is None  # exp(\d+) is the light: many images share it


def test_the_likest_is_found_in_whichever_block_it_lies() -> None:
    rng = np.random.default_rng(0)
    frequencies = rng.normal(0, 50, (2 * BLOCK + 300, 32)).astype(np.float16)
    rows = [row(n, "test" if n < 3 else "train") for n in range(len(frequencies))]
    partners = [5, BLOCK + 7, 2 * BLOCK + 200]
    frequencies[:3] = frequencies[partners]
    whitened = whiten(frequencies)
    np.testing.assert_allclose(np.linalg.norm(whitened.astype(np.float32), axis=1), 1, atol=2e-3)
    found = _likest(whitened, rows, [0, 1, 2], list(range(3, len(rows))))
    assert [(mine, other) for mine, other, _ in found] == list(enumerate(partners))
    np.testing.assert_allclose([cosine for *_, cosine in found], 1, atol=2e-3)
    rows[partners[1]] = replace(rows[partners[1]], sha256=rows[1].sha256)  # a copy is not its business
    assert partners[1] not in {other for _, other, _ in _likest(whitened, rows, [1], list(range(3, len(rows))))}
