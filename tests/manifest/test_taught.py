"""Defects to learn from stay where they are learnt from, and so do their parts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpformer.errors import UserError
from pipelines.gate.checks import duplicates, held_out
from pipelines.gate.finding import ERROR
from pipelines.gate.linked import Linked
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.splits import cut_here
from pipelines.manifest.table import Manifest

PART = r"p(\d+)_"


def picture(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(file)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two views of each of six good parts, and defects of the first two parts to learn from."""
    for part in range(6):
        for view in range(2):
            picture(tmp_path / f"nut/train/good/p{part}_{view}.png", 10 * part + view)
    for part in range(2):
        picture(tmp_path / f"nut/train/chip/p{part}_9.png", 100 + part)
    picture(tmp_path / "nut/test/good/p80_0.png", 200)
    picture(tmp_path / "nut/test/chip/p81_0.png", 201)
    return tmp_path


def manifest_of(root: Path, **settings: object) -> Manifest:
    return build_manifest(root, ManifestSettings("unused", **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_a_part_whose_defect_is_learnt_from_is_never_held_out(root: Path, fraction: float) -> None:
    rows = manifest_of(root, part=PART, val_fraction=fraction).rows
    held = {row.part for row in rows if row.split == "val"}
    assert held
    assert held <= {"2", "3", "4", "5"}
    assert not [row for row in rows if row.split == "val" and row.label]
    assert not held & {row.part for row in rows if row.split == "train"}
    assert cut_here(list(rows))  # the gate knows whose choice that was


def test_one_good_part_beside_the_taught_ones_is_held_out(root: Path) -> None:
    for part in (3, 4, 5):
        for view in range(2):
            (root / f"nut/train/good/p{part}_{view}.png").unlink()
    rows = manifest_of(root, part=PART, val_fraction=0.5).rows
    assert {row.part for row in rows if row.split == "val"} == {"2"}


def test_without_a_good_part_of_its_own_no_threshold_can_be_set(root: Path) -> None:
    for part in (2, 3, 4, 5):
        for view in range(2):
            (root / f"nut/train/good/p{part}_{view}.png").unlink()
    with pytest.raises(UserError, match="category nut: it has no good training image of a part without a defect"):
        manifest_of(root, part=PART)


def test_few_shots_are_good_images_and_the_defects_stay(root: Path) -> None:
    rows = manifest_of(root, shots=3).rows
    learnt = [row.label for row in rows if row.split == "train"]
    assert (learnt.count(0), learnt.count(1)) == (3, 2)


def test_a_part_that_is_learnt_from_and_tested_is_refused(root: Path) -> None:
    picture(root / "nut/test/chip/p1_5.png", 300)
    with pytest.raises(UserError, match="category nut, part 1: it is in "):
        manifest_of(root, part=PART)


def test_a_copy_of_a_defect_that_is_learnt_from_may_not_be_tested(root: Path) -> None:
    copied = root / "nut/test/chip/copy.png"
    copied.write_bytes((root / "nut/train/chip/p0_9.png").read_bytes())
    (finding,) = duplicates(list(manifest_of(root).rows))
    assert finding.severity == ERROR
    assert set(finding.paths) == {"nut/train/chip/p0_9.png", "nut/test/chip/copy.png"}


def test_the_gate_counts_no_taught_part_for_folds(root: Path) -> None:
    rows = manifest_of(root, part=PART).rows
    (finding,) = held_out(rows, Linked(), 0.01, None, folds=300)
    assert "12 good images of 4 parts are there for 300 folds" in finding.text
