"""Pictures of one part that the pipeline itself cut apart: one warning a category, which names the way out."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from inpformer.errors import UserError
from inpformer.images.deep import WHITE
from inpformer.judging.parts import parts_of
from inpformer.judging.settings import CalibrationSettings
from pipelines.gate.inspect import inspect
from pipelines.gate.likeness import BLOCK, Likeness, whiten
from pipelines.gate.linked import Linked, read_linked, write_linked
from pipelines.gate.look import look_at_all
from pipelines.gate.page import page
from pipelines.gate.parts import suggest_pattern
from pipelines.gate.settings import GateSettings
from pipelines.gate.similar import near_duplicates
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


def test_with_folds_train_and_val_are_one_side_whose_exposures_are_linked(exposures: Path) -> None:
    manifest = build_manifest(exposures, ManifestSettings("unused"))
    (finding,), linked = near_duplicates(list(manifest.rows), look_at_all(manifest, WHITE), pooled=True)
    plates = [{Path(path).name.partition("_")[0] for path in group} for group in linked.groups]
    assert all(len(one) == 1 for one in plates)
    assert len(plates) >= 28
    splits = {row.path: row.split for row in manifest.rows}
    assert any(len({splits[path] for path in group}) == 2 for group in linked.groups)
    assert finding.text.startswith(f"{2 * len(plates)} of 60 good pictures seem to show {len(plates)} parts")


def test_exposures_that_the_pipeline_cut_apart_are_one_warning_that_names_the_parts(exposures: Path) -> None:
    manifest = build_manifest(exposures, ManifestSettings("unused"))
    (finding, *_), _ = near_duplicates(list(manifest.rows), look_at_all(manifest, WHITE))
    assert (finding.severity, finding.category) == ("warning", manifest.categories[0])
    pairs = list(zip(finding.paths[::2], finding.paths[1::2], strict=True))
    assert len(pairs) >= 6
    assert all(a.split("_light")[0] == b.split("_light")[0] for a, b in pairs)
    assert repr(r"/plate(\d+)_") in finding.text
    assert page(manifest, [finding], (), WHITE).count("<img") == 12
    kept = build_manifest(exposures, ManifestSettings("unused", part=r"/plate(\d+)_"))
    assert near_duplicates(list(kept.rows), look_at_all(kept, WHITE))[0] == []


def test_a_validation_set_of_the_users_own_keeps_a_warning_a_pair(exposures: Path) -> None:
    for number in range(8):
        name = f"plate{number:02d}_light2.png"
        (exposures / "validation/good").mkdir(parents=True, exist_ok=True)
        (exposures / "train/good" / name).rename(exposures / "validation/good" / name)
    shutil.rmtree(exposures / "test")
    with_defect(exposures, "test_public")
    manifest = build_manifest(exposures, ManifestSettings("unused", layout="mvtec2"))
    findings, _ = near_duplicates(list(manifest.rows), look_at_all(manifest, WHITE))
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


def of_one_place(whitened: NDArray[np.float16], digests: Sequence[str]) -> Likeness:
    """Pictures that all agree when registered."""
    return Likeness(whitened, np.zeros((len(whitened), 606), np.uint8), np.unique(digests, return_inverse=True)[1], 0.0)


def test_the_likest_is_found_in_whichever_block_it_lies() -> None:
    rng = np.random.default_rng(0)
    frequencies = rng.normal(0, 50, (2 * BLOCK + 300, 32)).astype(np.float16)
    partners = [5, BLOCK + 7, 2 * BLOCK + 200]
    frequencies[:3] = frequencies[partners]
    whitened = whiten(frequencies)
    np.testing.assert_allclose(np.linalg.norm(whitened.astype(np.float32), axis=1), 1, atol=2e-3)
    digests = [f"{n}" for n in range(len(whitened))]
    found = of_one_place(whitened, digests).likest([0, 1, 2], range(3, len(digests)))
    assert [(mine, other) for mine, other, _ in found] == list(enumerate(partners))
    np.testing.assert_allclose([cosine for *_, cosine in found], 1, atol=2e-3)
    digests[partners[1]] = digests[1]  # a copy is not its business
    found = of_one_place(whitened, digests).likest([1], range(3, len(digests)))
    assert partners[1] not in {other for _, other, _ in found}


def test_the_likest_that_shows_the_same_place_is_taken() -> None:
    rng = np.random.default_rng(0)
    phases = rng.integers(0, 256, (4, 606)).astype(np.uint8)
    phases[2] = phases[0]
    whitened = np.zeros((4, 3), np.float16)
    whitened[:, 0], whitened[1:, 1] = [1, 0.9, 0.5, 0.1], [0.436, 0.866, 0.995]
    likeness = Likeness(whitened, phases, np.arange(4), 0.0)
    assert likeness.likest([0], [1, 2, 3]) == [(0, 2, 0.5)]
    assert likeness.likest([0], [1, 3]) == []
    assert likeness.together([0, 1, 2, 3]) == [[0, 2]]


def vectors(links: list[tuple[int, int]], count: int) -> NDArray[np.float16]:
    """Unit vectors whose cosine is .45 for each of the pairs and 0 for others."""
    gram = np.eye(count)
    for a, b in links:
        gram[a, b] = gram[b, a] = 0.45
    values, axes = np.linalg.eigh(gram)
    return np.asarray(axes * np.sqrt(np.maximum(values, 0)), np.float16)


@pytest.mark.parametrize(
    ("links", "groups"),
    [
        ([(0, 3)], [[0, 3]]),
        ([(n, n + 1) for n in range(7)], 4),  # a chain of neighbours is not one part
        ([(0, 1), (0, 2), (1, 2), (2, 3), (1, 3)], [[0, 1, 2, 3]]),  # one link is missing
        ([], []),
    ],
)
def test_pictures_are_one_part_with_half_of_their_links(
    links: list[tuple[int, int]], groups: int | list[list[int]]
) -> None:
    digests = [f"{n}" for n in range(8)]
    found = of_one_place(vectors(links, 8), digests).together(range(8))
    if isinstance(groups, int):
        assert sum(map(len, found)) == 8
        assert max(map(len, found)) <= 3
        assert len(found) <= groups
    else:
        assert [sorted(group) for group in found] == groups


def test_only_what_is_asked_for_is_linked_and_copies_are_not_its_business() -> None:
    linked = vectors([(0, 1), (1, 2), (0, 2), (3, 4)], 5)
    assert of_one_place(linked, list("abcde")).together([0, 2, 4]) == [[0, 2]]
    assert of_one_place(linked, list("abade")).together([0, 2, 4]) == []


@pytest.mark.parametrize("part", [None, r"/plate(\d+)_"])
def test_held_out_exposures_of_one_part_are_one_in_the_gates_count(
    exposures: Path, part: str | None, tmp_path: Path
) -> None:
    manifest = build_manifest(exposures, ManifestSettings("unused", part=part))
    findings, linked = inspect(manifest, GateSettings(("suspects",)), CalibrationSettings(0.05), WHITE)
    val = [row.path for row in manifest.held_out]
    assert len(val) == 12
    assert bool(linked.groups) == (part is None)  # names that are given say it already
    (held,) = [finding.text for finding in findings if finding.check == "held_out"]
    counted = parts_of([row.part for row in manifest.held_out], val, [linked.group(path) for path in val])
    assert f"{len(set(counted.tolist()))} parts" in held
    write_linked(linked, tmp_path / "linked.json")
    assert read_linked(tmp_path / "linked.json") == linked


def test_what_is_ignored_is_not_looked_for(exposures: Path) -> None:
    manifest = build_manifest(exposures, ManifestSettings("unused"))
    settings = GateSettings(("suspects", "near_duplicates"))
    assert inspect(manifest, settings, CalibrationSettings(0.1), WHITE)[1] == Linked(False)


@pytest.mark.parametrize(
    "content", [None, "[]", "{}", '{"looked": 1, "groups": []}', '{"looked": true, "groups": [[3]]}']
)
def test_a_damaged_list_of_groups_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "linked.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=rf"^{file}"):
        read_linked(file)
