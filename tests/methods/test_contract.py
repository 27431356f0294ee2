"""What every method must give: the pipeline knows nothing else of it."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from inpformer.config import build
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL
from inpformer.methods import METHODS, find_method
from inpformer.methods.base import TOTAL, Anomalies, Categorised, Fit, Groups, Model, Train
from inpformer.methods.modes import MULTI_CLASS, SINGLE_CLASS, ZERO_SHOT
from pipelines.tune.settings import Domain
from tests.conftest import MULTI, limits

VIT = EncoderShape((Level(4, 12),) * 8, heads=3)
PYRAMID = EncoderShape((Level(8, 6), Level(4, 10)), heads=None)
PICTURE = EncoderShape((Level(192, 3),), heads=None, picture=0)
# Small values of the settings that a pyramid needs and a ViT has not.
SHAPES = [(PYRAMID, {"grid": 4, "channels": 8}), (VIT, {"grid": None, "channels": None})]
MAE = {"patch": 2, "width": 8, "depth": 1, "heads": 2, "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2}
# Methods that read the picture itself, not features of it.
OF_PICTURES = ("scl_vi",)
# Of each method, what makes it small enough for a test.
QUICK: dict[str, dict[str, Any]] = {
    "inp_former": {"epochs": 1, "warmup": 1},
    "inp_former_pp": {"epochs": 1, "warmup": 1},
    "grnr": {"neighbours": 5},
    "ami_net": {"patch": 2, "width": 8, "depth": 1, "heads": 2, "clusters": 3, "epochs": 1},
    "tfa_net": MAE | {"references": 2},
    "st_mae": MAE | {"splits": 2},
    "glcf": {"width": 8, "depth": 1, "heads": 2, "decoder_heads": 4, "epochs": 1},
    "dadf": {"width": 8, "depth": 1, "heads": 2, "epochs": 1},
    "pnpt": {"width": 8, "depth": 1, "decoder_depth": 1, "heads": 2, "epochs": 1},
    "rb_ae": {"width": 8, "references": 2, "epochs": 1},
    "scl_vi": {"width": 24, "dimension": 8, "pairs": 1, "strides": (64, 32), "bank": 50, "epochs": 1},
}
SEEDS = range(4)  # of the images of a batch
every_method = pytest.mark.parametrize("name", METHODS)
CASES = [(name, *case) for name in METHODS if name not in OF_PICTURES for case in SHAPES]
CASES += [(name, PICTURE, {}) for name in OF_PICTURES]
KINDS = {PYRAMID: "pyramid", VIT: "vit", PICTURE: "picture"}
every_method_and_shape = pytest.mark.parametrize(
    ("name", "shape", "sizes"), CASES, ids=[f"{name}-{KINDS[shape]}" for name, shape, _ in CASES]
)


def levels(shape: EncoderShape, images: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, level.tokens, level.channels, generator=generator) for level in shape.levels]


def defects(groups: Groups) -> Anomalies:
    """The same pictures, one half of each changed."""
    masks = torch.zeros(len(groups[0]), 256, 256)
    masks[:, :128] = 1
    changed = [group.clone() for group in groups]
    for group in changed:
        group[:, : group.shape[1] // 2] += 1
    return Anomalies(changed, masks)


def settings(name: str, sizes: dict[str, Any]) -> Any:
    """Those of the sizes that it has, and few of everything."""
    known = {field.name for field in dataclasses.fields(METHODS[name].settings)}
    own = {key: value for key, value in sizes.items() if key in known}
    return METHODS[name].settings(**own, **QUICK.get(name, {}))


def taught(name: str, shape: EncoderShape, sizes: dict[str, Any]) -> Model:
    """A model that went through its phases on eight noise images, two steps each."""
    torch.manual_seed(0)
    method, own = METHODS[name], settings(name, sizes)
    model = method.make(own, shape)
    wants = method.wants(own, shape)
    batches = [wants.of(levels(shape, 4, seed)) for seed in range(2)]
    for phase in model.phases():
        if not isinstance(phase, Train):
            model.eval()
            with torch.no_grad():
                if isinstance(phase, Fit):
                    phase.fit(batches)
                else:
                    phase.fit([Categorised(batch, torch.arange(4) % 2) for batch in batches])
            model.train()
            continue
        optimizer = phase.optimizer(phase.network.parameters())
        for batch in batches:
            optimizer.zero_grad()
            phase.loss(phase.network, batch, defects(batch) if phase.anomalies else None, SEEDS)[TOTAL].backward()
            optimizer.step()
    return model.eval()


@every_method_and_shape
def test_a_batch_becomes_finite_maps_and_scores(name: str, shape: EncoderShape, sizes: dict[str, Any]) -> None:
    model = taught(name, shape, sizes)
    groups = METHODS[name].wants(settings(name, sizes), shape).of(levels(shape, 3, seed=9))
    with torch.inference_mode():
        for zero_shot in [False, True] if ZERO_SHOT in METHODS[name].modes else [False]:
            maps = model.maps(groups, 64, zero_shot)
            assert maps.shape == (3, 256, 256)
            assert torch.isfinite(maps).all()
            assert model.scores(maps).shape == (3,)
        alone = model.maps([group[1:2] for group in groups], 64, zero_shot=False)
        together = model.maps(groups, 64, zero_shot=False)[1:2]
    size = max(1.0, float(together.abs().max()))  # maps may have any unit, and values about 0
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5 * size)  # no image sees its batch mates


@every_method_and_shape
def test_tensors_alone_make_the_same_model(name: str, shape: EncoderShape, sizes: dict[str, Any]) -> None:
    model = taught(name, shape, sizes)
    torch.manual_seed(99)
    again = METHODS[name].make(settings(name, sizes), shape).eval()
    again.load_tensors(model.tensors(), "the file")
    groups = METHODS[name].wants(settings(name, sizes), shape).of(levels(shape, 2, seed=5))
    with torch.inference_mode():
        assert torch.equal(again.maps(groups, 64, False), model.maps(groups, 64, False))
    lacking = [model.tensors().keys() - {name} for name in list(model.tensors())[:1]]  # none, where it has none
    for names in (*lacking, model.tensors().keys() | {"strange"}):
        broken = {name: model.tensors().get(name, torch.zeros(1)) for name in names}
        with pytest.raises(UserError, match=r"^the file"):
            METHODS[name].make(settings(name, sizes), shape).load_tensors(broken, "the file")


@every_method_and_shape
def test_a_training_knows_its_losses_and_learns(name: str, shape: EncoderShape, sizes: dict[str, Any]) -> None:
    model = taught(name, shape, sizes)
    assert METHODS[name].learns == bool(model.phases())
    batch = METHODS[name].wants(settings(name, sizes), shape).of(levels(shape, 4))
    for phase in model.phases():
        if isinstance(phase, Train):
            anomalies = defects(batch) if phase.anomalies else None
            terms = phase.loss(phase.network, batch, anomalies, SEEDS)
            assert TOTAL in terms
            assert METHODS[name].anomalies or not phase.anomalies
            assert {value.shape for value in terms.values()} == {torch.Size([])}
            assert phase.validate(phase.network, batch, anomalies).shape == torch.Size([])
            assert phase.rate(phase.epochs * 10 - 1, phase.epochs * 10) > 0


@every_method
def test_the_settings_are_strict_and_the_search_space_is_among_them(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    defaults = dataclasses.asdict(method.settings())
    assert method.settings.__dataclass_params__.frozen
    with pytest.raises(UserError, match=r"train\.wrong_key is not a known key"):
        build(method.settings, {"wrong_key": 1}, "train")
    for dotted, domain in method.space.items():
        value: Any = defaults
        for key in dotted.split("."):
            value = value[key]
        assert isinstance(value, int | float)
        build(Domain, domain, dotted)
    assert {MULTI_CLASS, SINGLE_CLASS} <= set(method.modes)


@pytest.mark.parametrize("name", [name for name, one in METHODS.items() if "grid" in one.settings.__dataclass_fields__])
@pytest.mark.parametrize(
    ("shape", "wrong", "key"),
    [(PYRAMID, {"grid": None}, "grid"), (PYRAMID, {"channels": 17}, "channels"), (VIT, {"grid": 4}, "grid")],
)
def test_settings_that_do_not_suit_the_encoder_are_named(
    name: str, shape: EncoderShape, wrong: dict[str, Any], key: str
) -> None:
    sizes = dict(SHAPES[0][1] if shape is PYRAMID else SHAPES[1][1]) | wrong
    with pytest.raises(UserError, match=f"^{key} is"):
        METHODS[name].make(settings(name, sizes), shape)


@every_method
def test_a_detector_of_it_is_saved_loaded_and_asked(name: str, encoder: Encoder, tmp_path: Path) -> None:
    sizes = {"grid": 4, "channels": 8}
    if name in OF_PICTURES:
        encoder = load_encoder(EncoderSettings(resize=192, crop=192, levels=(1,)))
    model = taught(name, encoder.shape, sizes)
    method, own = METHODS[name], settings(name, sizes)
    detector = Detector(encoder, method, own, {ALL: model}, MULTI, {"nut": limits(0.0), "bolt": limits(1e9)})
    detector.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector")
    assert (loaded.method, loaded.settings) == (method, own)
    noise = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), np.uint8)
    images = [Image.fromarray(one) for one in noise]
    before, after = (one.predict(images, ["nut", "bolt"]) for one in (detector, loaded))
    np.testing.assert_array_equal(after.scores, before.scores)
    np.testing.assert_array_equal(after.maps, before.maps)
    decisions = [loaded.decide(float(s), m, look, (70, 50), c) for s, m, look, c in zip(*_judged(after), strict=True)]
    assert [decision.decision for decision in decisions] == ["FAIL", "PASS"]


def _judged(prediction: Any) -> tuple[Any, Any, Any, list[str]]:
    return prediction.scores, prediction.maps, prediction.looks, ["nut", "bolt"]


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=f"method is 'patchcore': it must be one of {', '.join(METHODS)}"):
        find_method("patchcore")


def test_the_registry_needs_no_torch() -> None:
    code = "import sys, inpformer.methods; assert not {'torch', 'timm', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
