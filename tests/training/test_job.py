"""What a training is told and refused before it starts, and by what it is named."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from inpformer.config import build
from inpformer.encoders.encoder import Encoder
from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import StaleFeaturesError, UserError
from inpformer.methods import METHODS
from inpformer.methods.base import Train
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.methods.nearest.settings import NearestSettings
from inpformer.training.loop import LoopConfig
from inpformer.training.settings import TrainSettings
from pipelines.features.index import FeatureIndex, compute_features
from pipelines.features.settings import FeatureSettings
from pipelines.gate.linked import Linked
from pipelines.manifest.table import Manifest
from pipelines.train.fit import mean_history, run_key, write_losses
from pipelines.train.pictures import draw_losses
from pipelines.training.features import training_features
from pipelines.training.job import Job, fewest_epochs, wanted_by, warn_if_short
from tests.training.made_up import PYRAMID, Noise

VIT = EncoderShape((Level(3, 24),) * 4, 2)


def settings(values: dict[str, object]) -> TrainSettings:
    return build(TrainSettings, values, "params.yaml: train")


# ---- settings


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"method": "patchcore"},
            f"train.method is 'patchcore': it must be one of {', '.join(METHODS)}",
        ),
        ({"method": ["nearest"]}, "train.method is ['nearest']: it must be a text"),
        (
            {"method": "nearest", "setting": "zero-shot", "weights": "w"},
            "(zero-shot is one of inp_former, inp_former_pp)",
        ),
        ({"setting": "zero-shot"}, "train.weights is None: it must be a detector's folder"),
        (
            {"setting": "few-shot"},
            "train.setting is 'few-shot': it must be one of multi-class, semi-supervised, single-class",
        ),
        ({"nearest": {"neighbors": 3}}, "train.nearest.neighbors is not a known key: use one of neighbours"),
        ({"nearest": {"neighbours": 0}}, "train.nearest.neighbours is 0: it must be between 1"),
        ({"method": "nearest", "inp_former": {"losses": {"gama": 1}}}, "train.inp_former.losses.gama is not a known"),
        ({"method": "nearest", "inp_former": {"epochs": 0}}, "train.inp_former.epochs is 0: it must be at least 1"),
        ({"nearest": []}, "train.nearest must be a table"),
        ({"epochs": 3}, "train.epochs is not a known key: use one of method"),
        ({"own": {}}, "train.own is not a known key"),
    ],
)
def test_a_mistake_in_any_methods_table_is_refused_by_its_key(values: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        settings(values)


def test_the_table_of_the_chosen_method_is_its_settings() -> None:
    given = {"method": "nearest", "nearest": {"neighbours": 3}, "inp_former": {"lr": 0.01}}
    assert settings(given).own == NearestSettings(neighbours=3)
    assert settings({**given, "method": "inp_former"}).own == InpFormerSettings(lr=0.01)
    assert settings({"nearest": None}) == TrainSettings()
    for one in (settings(given), TrainSettings(num_workers=(1, 4))):
        assert settings(one.table) == one


# ---- what names a training

INDEX = FeatureIndex(None, "key", "digest", VIT, None, None, 1, "table")  # type: ignore[arg-type]


def test_where_it_runs_and_other_methods_tables_change_no_key(manifest: Manifest) -> None:
    def key(
        values: dict[str, object],
        index: FeatureIndex = INDEX,
        taken: str = "",
        folds: int | None = None,
        linked: tuple[str, ...] = (),
    ) -> str:
        return run_key(manifest, index, settings(values), taken, folds, Linked(True, [linked]))

    for elsewhere in ({"num_workers": [1, 4]}, {"storage": "s3://a/b"}, {"checkpoint_every": 1}):
        assert key(elsewhere) == key({})
        assert settings(elsewhere).identity == TrainSettings().identity
    assert key({"nearest": {"neighbours": 5}}) == key({})
    assert key({}, linked=("a.png", "b.png")) == key({})  # only folds ask which images are one part
    assert key({"method": "nearest", "inp_former": {"lr": 0.01}}) == key({"method": "nearest"})
    others = [
        key({}),
        key({"method": "nearest"}),
        key({"method": "nearest", "nearest": {"neighbours": 5}}),
        key({"inp_former": {"lr": 0.01}}),
        key({"seed": 2}),
        key({"batch_size": 8}),
        key({"setting": "single-class"}),
        key({}, taken="weights"),
        key({}, folds=4),
        key({}, folds=5),
        key({}, folds=5, linked=("a.png", "b.png")),
        key({}, replace(INDEX, encoder_key="other")),
        key({}, replace(INDEX, table="other")),
        key({}, replace(INDEX, anomalies="table")),
        key({"setting": "semi-supervised", "method": "inp_former_pp"}),
        key({}, replace(INDEX, kept=Wants(((0, 1), (2, 3))))),
    ]
    assert len(set(others)) == len(others)


# ---- what is told


def short(epochs: int, warmup: int, images: int = 35) -> LoopConfig:
    own = InpFormerSettings(grid=3, channels=16, epochs=epochs, warmup=warmup)
    return LoopConfig(TrainSettings(batch_size=8, own=own), PYRAMID, Noise(images=images))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("epochs", "warmup", "images", "enough"),
    [
        (74, 100, 35, 75),  # 4 steps an epoch
        (75, 100, 35, None),
        (100, 400, 35, 101),  # just at the peak of the rate when it ends
        (101, 400, 35, None),
        (1, 0, 35, 75),
        (5, 0, 800, None),  # 100 steps an epoch
        (2, 0, 800, 3),
        (2, 10**7, 800, 10**5 + 1),
    ],
)
def test_too_short_a_training_is_told_how_long_would_do(
    capsys: pytest.CaptureFixture[str], epochs: int, warmup: int, images: int, enough: int | None
) -> None:
    config = short(epochs, warmup, images)
    warn_if_short(config, "nut")
    told = capsys.readouterr().err
    assert [int(n) for n in re.findall(r"(\d+) epochs would do", told)] == ([] if enough is None else [enough])
    (phase,) = (phase for phase in config.model().phases() if isinstance(phase, Train))
    fewest = fewest_epochs(phase, images // 8)
    assert fewest <= epochs if enough is None else fewest == enough
    if told:
        assert told.startswith("warning: ")
        assert told.count("\n") == 1
        assert f"{epochs} epochs of {images} images of nut" in told


def test_with_a_floor_in_steps_a_training_is_not_too_short(capsys: pytest.CaptureFixture[str]) -> None:
    own = InpFormerSettings(grid=3, channels=16, epochs=2, fewest_steps=300)
    warn_if_short(LoopConfig(TrainSettings(batch_size=8, own=own), PYRAMID, Noise(images=35)))  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""
    own = replace(own, fewest_steps=200)
    warn_if_short(LoopConfig(TrainSettings(batch_size=8, own=own), PYRAMID, Noise(images=35)))  # type: ignore[arg-type]
    assert "warning: 50 epochs of 35 images" in capsys.readouterr().err


def test_a_method_without_steps_is_never_short(capsys: pytest.CaptureFixture[str]) -> None:
    own = NearestSettings(grid=3, channels=16)
    warn_if_short(LoopConfig(TrainSettings(method="nearest", own=own), PYRAMID, Noise()))  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""


# ---- what is left of it


def test_losses_of_phases_that_differ_are_averaged_written_and_drawn(tmp_path: Path) -> None:
    first = [{"epoch": 1, "loss": 4.0, "val_loss": 3.0}, {"epoch": 2, "loss": 2.0, "rebuilt": 2.0, "val_loss": 1.0}]
    second = [{"epoch": 1, "loss": 2.0, "val_loss": 1.0}, {"epoch": 2, "loss": 1.0, "val_loss": 1.0}]
    mean = mean_history([first, second])
    assert mean == [
        {"epoch": 1, "loss": 3.0, "val_loss": 2.0},
        {"epoch": 2, "loss": 1.5, "rebuilt": 2.0, "val_loss": 1.0},
    ]
    assert mean_history([[], []]) == []
    header = "epoch,loss,val_loss"
    cases = (
        (mean, [f"{header},rebuilt", "1.0,3.0,2.0,", "2.0,1.5,1.0,2.0"], 2),
        (mean[:1], [header, "1.0,3.0,2.0"], 1),
        ([], [header], 1),
    )
    for history, lines, panels in cases:
        write_losses(history, tmp_path / "loss.csv")
        assert (tmp_path / "loss.csv").read_text().splitlines() == lines
        draw_losses(history, tmp_path / "loss.png")
        with Image.open(tmp_path / "loss.png") as picture:
            assert picture.width == 770 * panels


# ---- what is refused


def job(manifest: Manifest, encoder: Encoder, root: Path, settings: TrainSettings, kept: Wants | None) -> Job:
    stored = FeatureSettings(encoder.settings, store=str(root / "store"))
    index = compute_features(manifest, encoder, stored, kept)
    return Job(manifest, index, encoder, settings, training_features(stored, index), None, None)  # type: ignore[arg-type]


def test_features_kept_for_another_method_are_stale(manifest: Manifest, encoder: Encoder, tmp_path: Path) -> None:
    former = TrainSettings(batch_size=2, own=InpFormerSettings(grid=4, channels=16))
    nearest = TrainSettings(method="nearest", batch_size=2, own=NearestSettings(grid=2, channels=16))
    kept = wanted_by(former, encoder.shape)
    assert job(manifest, encoder, tmp_path, former, kept).loop().features.open().count("train") > 2
    with pytest.raises(StaleFeaturesError, match="the stored features are not what nearest wants"):
        job(manifest, encoder, tmp_path, nearest, kept).loop()
    alike = replace(nearest, own=NearestSettings(grid=4, channels=16))
    for settings, stored in ((alike, kept), (nearest, None), (former, None)):
        job(manifest, encoder, tmp_path, settings, stored).loop()


@pytest.mark.parametrize(
    ("own", "shape", "key"),
    [
        (InpFormerSettings(channels=None), PYRAMID, "channels is None"),
        (InpFormerSettings(channels=4096), PYRAMID, "channels is 4096: it must be at most 24"),
        (InpFormerSettings(grid=None, channels=8), PYRAMID, "grid is None"),
        (InpFormerSettings(grid=None, channels=8), VIT, "channels is 8"),
        (InpFormerSettings(grid=3, channels=None), VIT, "grid is 3"),
    ],
)
def test_settings_must_suit_the_encoder(own: InpFormerSettings, shape: EncoderShape, key: str) -> None:
    with pytest.raises(UserError, match=rf"^params.yaml: train.inp_former.{key}"):
        wanted_by(TrainSettings(own=own), shape)


@pytest.mark.parametrize("channels", [None, 4096])
def test_channels_must_suit_the_bundled_encoder(encoder: Encoder, channels: int | None) -> None:
    with pytest.raises(UserError, match="it must be at most 496, the channels of the encoder's levels"):
        wanted_by(TrainSettings(own=InpFormerSettings(grid=4, channels=channels)), encoder.shape)
