"""params.yaml: what is refused, and that a preset changes its values alone."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from demo.settings import DemoData
from inpformer.errors import UserError
from inpformer.methods import METHODS
from inpformer.training.settings import TrainSettings
from pipelines.evaluate.settings import EvaluateSettings
from pipelines.features.settings import FeatureSettings
from pipelines.manifest.settings import ManifestSettings
from pipelines.platform.params import flat, read_section
from pipelines.preset import apply_preset
from pipelines.register.settings import RegisterSettings
from pipelines.tune.settings import TuneSettings
from pipelines.tune.space import distributions

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ours in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml"))


def test_ours_is_complete_and_valid(params: Path) -> None:
    written = yaml.safe_load(params.read_text())
    sections = {
        "demo_data": DemoData,
        "manifest": ManifestSettings,
        "features": FeatureSettings,
        "tune": TuneSettings,
        "train": TrainSettings,
        "evaluate": EvaluateSettings,
        "register": RegisterSettings,
    }
    for name, cls in sections.items():
        read_section(name, cls)
        optional = {"weights_sha256"} if name == "features" else set()
        known = set(cls.__dataclass_fields__) - {"own"}
        assert set(written[name]) | optional >= known | (set(METHODS) if name == "train" else set()), name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {inp_former: {num_prototypes: 0}}", "train.inp_former.num_prototypes is 0: it must be at least 1"),
        ("train: {num_prototypes: 6}", "train.num_prototypes is not a known key: use one of method, setting, weights"),
        (
            "train: {inp_former: {losses: {mining_power: -1}}}",
            "train.inp_former.losses.mining_power is -1.0: it must be between 0 and 16",
        ),
        ("train: {inp_former: {epochs: many}}", "train.inp_former.epochs is 'many': it must be a whole number"),
        ("train: {method: patchcore}", "method is 'patchcore': it must be one of inp_former, nearest"),
        ("train: {nearest: {neighbors: 2}}", "train.nearest.neighbors is not a known key: use one of neighbours"),
        ("train: {method: nearest, setting: zero-shot}", "setting is 'zero-shot': it must be one of multi-class"),
        (
            "train: {batch_size: 2, num_workers: [1, 3]}",
            "train.batch_size is 2: it must be at least 3, an image for each",
        ),
        (
            "train: {num_workers: [4, 1]}",
            "train.num_workers is (4, 1): it must be at least 1, or the fewest and the most",
        ),
        ("train: {num_workers: [1, 2, 3]}", "train.num_workers is (1, 2, 3): it must be at least 1, or the fewest"),
        ("train: {num_workers: 1.5}", "train.num_workers is 1.5: it must be a whole number"),
        ("train: 5", "train must be a table"),
        ("trian: {epochs: 5}", "trian is not a known section: use one of demo_data"),
        ("train: [", "is not valid YAML"),
        ("", "holds no sections"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(params: Path, text: str, words: str) -> None:
    params.write_text(text)
    with pytest.raises(UserError) as error:
        read_section("train", TrainSettings)
    assert words in str(error.value)


def test_a_missing_file_says_where_to_run(params: Path) -> None:
    params.unlink()
    with pytest.raises(UserError, match="run from the root of the repository"):
        read_section("train", TrainSettings)


def test_the_paper_preset_is_the_paper(params: Path) -> None:
    before = params.read_text()
    apply_preset("paper")
    after = params.read_text()
    encoder = read_section("features", FeatureSettings).encoder
    assert (encoder.name, encoder.resize, encoder.crop) == ("vit_base_patch14_reg4_dinov2.lvd142m", 448, 392)
    train = read_section("train", TrainSettings)
    own = train.own
    assert (own.epochs, train.batch_size, own.num_prototypes, own.channels, own.grid) == (200, 16, 6, None, None)
    assert before.count("#") == after.count("#")  # its comments stay
    assert yaml.safe_load(before)["manifest"] == yaml.safe_load(after)["manifest"]


def test_our_search_space_is_one_that_train_can_take(params: Path) -> None:
    for preset in (None, "paper"):
        if preset:
            apply_preset(preset)
        settings = replace(read_section("tune", TuneSettings), trials=16)
        assert set(distributions(settings.space, read_section("train", TrainSettings))) == set(settings.space)


def test_an_unknown_preset_is_refused_with_the_known_ones(params: Path) -> None:
    with pytest.raises(UserError, match="there is no preset papre: choose one of paper"):
        apply_preset("papre")


def test_flat_names_are_dotted() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": None}, "e": [2]}) == {"a.b.c": 1, "a.d": None, "e": [2]}
