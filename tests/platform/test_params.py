"""params.yaml: what is refused, and that a preset changes its values alone."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from demo.settings import DemoData
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods import METHODS
from inpformer.training.settings import TrainSettings
from pipelines.evaluate.settings import EvaluateSettings
from pipelines.features.settings import FeatureSettings
from pipelines.manifest.settings import ManifestSettings
from pipelines.platform.params import check, flat, read_section
from pipelines.preset import apply_preset
from pipelines.register.settings import RegisterSettings
from pipelines.tune.settings import TuneSettings
from pipelines.tune.space import distributions, space_of

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
        (
            "train: {method: patchcore}",
            f"method is 'patchcore': it must be one of {', '.join(METHODS)}",
        ),
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
        ("train: {seed: 2024-99-99}", "is not valid YAML"),
        ("train: " + "[" * 5000, "is not valid YAML"),
        ("train: {seed: 1, seed: 2}", 'params.yaml, line 1: duplicate key "seed"'),
        ("train: {seed: 1}\ngate: {}\ntrain: {seed: 2}", 'params.yaml, line 3: duplicate key "train"'),
        ("train: {batch_size: [16]}", "train.batch_size is [16]: it must be a whole number"),
        ("train: {seed: yes}", "train.seed is 'yes': it must be a whole number"),
        ("train: {seed: true}", "train.seed is True: it must be a whole number"),
        ("train: {seed: 1" + "0" * 30 + "}", "train.seed is too large"),
        ("train: {storage: null}", "train.storage is None: it must be a text"),
        ("calibrate: {false_alarm_rate: .nan}", "calibrate.false_alarm_rate is nan: it must be a number within"),
        ("features: {cache_gigabytes: .inf}", "features.cache_gigabytes is inf: it must be a number within"),
        ("features: {cache_gigabytes: [20]}", "features.cache_gigabytes is [20]: it must be a number"),
        ("features: {cache_gigabytes: 1" + "0" * 400 + "}", "features.cache_gigabytes is too large"),
        ("features: {encoder: {crops: 3}}", "features.encoder.crops is not a known key: use one of name"),
        ("evaluate: {bootstrap: {replicate: 3}}", "evaluate.bootstrap.replicate is not a known key"),
        ("tune: {space: {1: {low: 0, high: 1}}}", "tune.space is {1: {'low': 0, 'high': 1}}: it must be a table"),
        ("manifest: {data: ''}", "manifest.data is ''"),
        ('manifest: {data: "a\\0b"}', "manifest.data is 'a\\x00b'"),
        ("gate:", "gate must be a table"),
        ("", "holds no sections"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(params: Path, text: str, words: str) -> None:
    params.write_text(text)
    with pytest.raises(UserError) as error:
        read_section("train", TrainSettings)
    assert words in str(error.value)


STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
HEAVY = {"torch", "torchvision", "timm", "ray", "mlflow", "optuna", "pandas", "pyarrow", "scipy"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_mistake_in_another_section_is_told_by_every_stage_before_anything_heavy_is_loaded(
    params: Path, stage: str
) -> None:
    other = "manifest" if stage == "register" else "register"
    written = yaml.safe_load(params.read_text())
    written[other]["mistyped"] = 1
    params.write_text(yaml.safe_dump(written))
    command = shlex.split(STAGES[stage]["cmd"])[1:]
    named = {name for name in command if name.startswith(("artifacts/", "reports/"))}
    outs = {*STAGES[stage]["outs"], *STAGES[stage].get("metrics", [])}
    inputs = [Path(name) for name in sorted(named - outs)]
    for file in inputs:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command], env=environment, capture_output=True, text=True, check=False
    )
    *imported, said = done.stderr.splitlines()
    assert (done.returncode, said.split(" is ")[0]) == (1, f"error: params.yaml: {other}.mistyped")
    loaded = {name[1].split(".")[0] for line in imported if (name := re.search(r"\|\s+([\w.]+)$", line))}
    assert "inpformer" in loaded
    assert loaded & HEAVY == set()
    outputs = [Path(name) for name in STAGES[stage]["outs"]]
    assert not any(file.exists() for file in outputs)


def test_numbers_are_read_as_dvc_reads_them(params: Path) -> None:
    params.write_text("calibrate: {false_alarm_rate: 1e-3}")
    assert read_section("calibrate", CalibrationSettings).false_alarm_rate == 0.001


def test_a_file_that_may_not_be_read_and_one_that_is_no_text_are_one_sentence(params: Path) -> None:
    params.write_bytes(b"train: {storage: \xff}")
    with pytest.raises(UserError, match="is not valid YAML"):
        read_section("train", TrainSettings)
    params.unlink()
    params.mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        read_section("train", TrainSettings)


@pytest.mark.parametrize(
    ("section", "key", "value", "others"),
    [
        ("manifest", "shots", 4, "inp_former, inp_former_pp, nearest"),
        ("calibrate", "folds", 10, "inp_former, inp_former_pp, nearest"),
        ("evaluate", "backend", "onnxruntime", "inp_former, inp_former_pp, nearest"),
        ("train", "setting", "semi-supervised", "inp_former_pp"),
        ("train", "setting", "zero-shot", "inp_former, inp_former_pp"),
    ],
)
def test_what_a_method_has_not_is_refused_by_every_command_with_those_that_do(
    params: Path, section: str, key: str, value: object, others: str
) -> None:
    written = yaml.safe_load(params.read_text())
    written["train"]["method"] = "grnr"
    params.write_text(yaml.safe_dump(written))
    check()
    written[section][key] = value
    params.write_text(yaml.safe_dump(written))
    with pytest.raises(UserError) as error:
        check()
    assert f"{section}.{key} is " in str(error.value)
    assert "grnr" in str(error.value)
    assert others in str(error.value)


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


@pytest.mark.parametrize("method", ["grnr", "glcf", "pnpt", "scl_vi", "rb_ae"])
def test_the_preset_of_a_method_chooses_it_and_an_encoder_that_it_can_read(params: Path, method: str) -> None:
    apply_preset(method)
    assert (train := read_section("train", TrainSettings)).method == method
    encoder = read_section("features", FeatureSettings).encoder
    own = tuple(stride for stride in encoder.levels or () if stride != 1)
    levels = [Level(encoder.crop, 3), *(Level(encoder.crop // stride, 8 * stride) for stride in own)]
    assert train.kind.wants(train.own, EncoderShape(tuple(levels), None, picture=0)).groups
    assert encoder.levels == ((1, *own) if method == "scl_vi" else own)


def test_our_search_space_is_one_that_train_can_take(params: Path) -> None:
    for preset in (None, "paper"):
        if preset:
            apply_preset(preset)
        settings = replace(read_section("tune", TuneSettings), trials=16)
        train = read_section("train", TrainSettings)
        space = space_of(settings, train)
        assert set(distributions(space, train)) == set(space)
        assert {"inp_former.num_prototypes", "inp_former.losses.coherence_weight", "inp_former.lr"} < set(space)


def test_an_unknown_preset_is_refused_with_the_known_ones(params: Path) -> None:
    presets = ", ".join(sorted(file.stem for file in Path("presets").glob("*.yaml")))
    with pytest.raises(UserError, match=f"there is no preset papre: choose one of {presets}"):
        apply_preset("papre")


def test_flat_names_are_dotted() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": None}, "e": [2]}) == {"a.b.c": 1, "a.d": None, "e": [2]}
