"""What cannot be compared is refused in a sentence, before anything is loaded."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from inpformer.errors import UserError
from pipelines.compare.asked import ask, refuse_few_draws, refuse_unready
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import Manifest, write_manifest
from pipelines.promote.settings import PromoteSettings


@pytest.fixture
def file(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The manifest's; the working directory is its folder."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("train: {seed: 5, num_workers: 2}\n")
    write_manifest(manifest, tmp_path / "manifest.parquet")
    return tmp_path / "manifest.parquet"


def test_seeds_count_up_and_what_learns_nothing_is_trained_once(file: Path) -> None:
    asked = ask(["nearest", "grnr", "inp_former"], 3, file)
    trainings = [(one.method, one.seed) for one in asked.trainings]
    assert trainings == [*(("nearest", n) for n in (5, 6, 7)), ("grnr", 5), *(("inp_former", n) for n in (5, 6, 7))]
    assert {one.num_workers for one in asked.trainings} == {1}


@pytest.mark.parametrize(
    ("names", "seeds", "params", "words"),
    [
        (["nearest", "best"], 1, {}, "--methods is 'best': it must be one of inp_former"),
        (["grnr", "nearest", "grnr"], 1, {}, "names grnr twice"),
        (["nearest"], 1, {}, "two methods or more"),
        (["nearest", "grnr"], 0, {}, "--seeds is 0: it must be at least 1"),
        (["inp_former_pp", "grnr"], 1, {"train": {"method": "inp_former_pp", "setting": "semi-supervised"}},
         r"train.setting is 'semi-supervised': it must be one of multi-class, single-class: grnr has no other \(semi-"),
        (["nearest", "grnr"], 1, {"train": {"setting": "zero-shot", "weights": "w"}}, "train.setting is zero-shot"),
        (["nearest", "grnr"], 1, {"train": {"weights": "w"}}, "train.weights is set"),
        (["nearest", "inp_former"], 1, {"train": {"inp_former": {"grid": "wide"}}}, "train.inp_former.grid"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared(
    file: Path, names: Sequence[str], seeds: int, params: dict[str, Any], words: str
) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(UserError, match=words):
        ask(names, seeds, file)


def test_so_many_methods_that_draws_could_not_tell_a_pair_apart() -> None:
    refuse_few_draws(7, PromoteSettings(replicates=1000))
    refuse_few_draws(10, PromoteSettings())
    with pytest.raises(UserError, match=r"promote.replicates is 1000: it must be at least 1120, for the pairs of 8"):
        refuse_few_draws(8, PromoteSettings(replicates=1000))


def test_few_shot_is_refused_for_what_learns_nothing(file: Path, manifest: Manifest) -> None:
    few = build_manifest(manifest.root, ManifestSettings("unused", shots=4))
    write_manifest(few, file)
    with pytest.raises(UserError, match=r"manifest.shots is 4: it must be null, as grnr learns nothing"):
        ask(["nearest", "grnr"], 1, file)


@pytest.mark.parametrize("label", [0, 1])
def test_without_good_and_defective_test_images_there_is_nothing_to_compare_on(
    file: Path, manifest: Manifest, label: int
) -> None:
    write_manifest(replace(manifest, rows=[r for r in manifest.rows if r.split != "test" or r.label == label]), file)
    with pytest.raises(UserError, match=r"no category of .* has both good and defective images in test"):
        ask(["nearest", "grnr"], 1, file)


def test_a_stage_that_has_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"features.json is not there: run `dvc repro features`"):
        refuse_unready(tmp_path, tmp_path / "features.json")
