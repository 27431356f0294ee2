"""INP-Former++ as a model: its phases, its map, and what it takes up of a trained INP-Former."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.methods import METHODS
from inpformer.methods.base import Anomalies, Fit, Groups, Train
from inpformer.methods.inp_former.losses import distance_maps
from inpformer.methods.inp_former.model import InpFormer, reconstruction_map
from inpformer.methods.inp_former.settings import InpFormerSettings, MemorySettings
from inpformer.methods.inp_former_pp.head import residual
from inpformer.methods.inp_former_pp.losses import soft_prototypes
from inpformer.methods.inp_former_pp.model import InpFormerPlus
from inpformer.methods.inp_former_pp.settings import HeadSettings, InpFormerPlusSettings, PlusLossSettings
from inpformer.nn.maps import to_map

PYRAMID = EncoderShape((Level(8, 6), Level(4, 10)), heads=None)
VIT = EncoderShape((Level(4, 12),) * 8, heads=3)
SMALL = InpFormerPlusSettings(num_prototypes=3, grid=4, channels=8, epochs=1, warmup=1)
FOR_VIT = replace(SMALL, grid=None, channels=None)


def groups(settings: InpFormerSettings, shape: EncoderShape, seed: int = 0) -> Groups:
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.randn(4, level.tokens, level.channels, generator=generator) for level in shape.levels]
    return InpFormerPlus.wants(settings, shape).of(levels)


def fitted(settings: InpFormerPlusSettings, shape: EncoderShape = PYRAMID) -> InpFormerPlus:
    torch.manual_seed(0)
    model = InpFormerPlus(settings, shape)
    with torch.no_grad():
        for phase in model.phases():
            if isinstance(phase, Fit):
                phase.fit([groups(settings, shape)])
    return model


def changed(settings: InpFormerPlusSettings, **losses: Any) -> InpFormerPlusSettings:
    return replace(settings, losses=replace(settings.losses, **losses))


def trained(phase: Any) -> nn.Module:
    assert isinstance(phase, Train)
    return phase.network


@pytest.mark.parametrize(
    ("training", "weight", "networks", "anomalies"),
    [
        ("jointly", 1.0, [("network", "head")], [True]),
        ("afterwards", 1.0, [("network",), ("head",)], [False, True]),
        ("alone", 1.0, [("head",)], [True]),
        ("jointly", 0.0, [("network",)], [False]),
    ],
)
def test_the_head_is_trained_as_the_settings_say(
    training: Any, weight: float, networks: list[tuple[str, ...]], anomalies: list[bool]
) -> None:
    model = fitted(replace(changed(SMALL, residual_weight=weight), head=HeadSettings(training, (4, 3))))
    phases = [phase for phase in model.phases() if isinstance(phase, Train)]
    expected = [{id(p) for name in names for p in getattr(model, name).parameters()} for names in networks]
    assert [{id(p) for p in phase.network.parameters()} for phase in phases] == expected
    assert [phase.anomalies for phase in phases] == anomalies


@pytest.mark.parametrize(("settings", "shape"), [(SMALL, PYRAMID), (FOR_VIT, VIT)], ids=["pyramid", "vit"])
def test_a_joint_step_is_the_sum_of_the_terms(settings: InpFormerPlusSettings, shape: EncoderShape) -> None:
    model = fitted(changed(settings, coherence_weight=0.3, residual_weight=2.0), shape)
    (phase,) = [phase for phase in model.phases() if isinstance(phase, Train)]
    masks = torch.zeros(4, 256, 256)
    masks[:, :100] = 1
    batch = Anomalies(groups(settings, shape, seed=1), masks)
    terms = phase.loss(phase.network, groups(settings, shape), batch, ())
    assert list(terms) == ["total", "soft_mining", "coherence", "dice"]
    expected = terms["soft_mining"] + 0.3 * terms["coherence"] + 2 * terms["dice"]
    torch.testing.assert_close(terms["total"], expected)
    # The pictures with defects teach the head alone: the network's gradient does not know of them.
    terms["total"].backward()
    with_them = [p.grad.clone() for p in model.network.parameters() if p.grad is not None]
    model.zero_grad()
    (terms_without := phase.loss(phase.network, groups(settings, shape), Anomalies(batch.groups, 1 - masks), ()))
    terms_without["total"].backward()
    without = [p.grad for p in model.network.parameters() if p.grad is not None]
    for one, other in zip(with_them, without, strict=True):
        torch.testing.assert_close(one, other)


def test_relative_differences_are_in_units_of_the_training_features() -> None:
    model = fitted(SMALL)
    target = model.target(groups(SMALL, PYRAMID))
    # Without the projection's constant channel, which is there for the cosine alone.
    assert float(model.unit) == pytest.approx(float(target[..., :-1].square().mean().sqrt()))
    assert float(fitted(replace(SMALL, distances="absolute")).unit) == 1


@pytest.mark.parametrize(("distances", "weight"), [("relative", 1), ("absolute", 1), ("relative", 0.1)])
def test_the_map_is_the_mean_of_reconstruction_and_head(distances: Any, weight: float) -> None:
    head_settings = replace(SMALL.head, weight=weight)
    model = fitted(replace(SMALL, distances=distances, head=head_settings)).eval()
    batch = groups(SMALL, PYRAMID, seed=3)
    with torch.inference_mode():
        output = model.network(model.target(batch))
        difference = (output.target - output.decoded)[..., :-1]
        length = difference.norm(dim=-1)
        if distances == "relative":
            length = length / (float(model.unit) * difference.shape[-1] ** 0.5)
        errors = (distance_maps(output.target, output.decoded) + length) / 2
        head = model.head(residual(output, model.unit)).sigmoid()
        expected = (to_map(errors, 64) + weight * to_map(head.flatten(1)[:, None], 64)) / (1 + weight)
        torch.testing.assert_close(model.maps(batch, 64, False), expected)


def test_without_second_branch_and_head_the_map_is_that_of_inp_former() -> None:
    model = fitted(changed(SMALL, squared_weight=0.0, residual_weight=0.0)).eval()
    batch = groups(SMALL, PYRAMID, seed=3)
    with torch.inference_mode():
        expected = reconstruction_map(model.network(model.target(batch)), 64)
        torch.testing.assert_close(model.maps(batch, 64, False), expected)


def test_zero_shot_maps_are_of_the_nearest_or_of_the_soft_prototype() -> None:
    batch = groups(SMALL, PYRAMID, seed=3)
    nearest, soft = (fitted(replace(SMALL, zero_shot=kind)).eval() for kind in ("nearest", "soft"))
    with torch.inference_mode():
        fused = soft.target(batch).mean(dim=1)
        mixed = soft_prototypes(fused, soft.network.prototypes(fused))
        expected = to_map(1 - torch.cosine_similarity(fused, mixed, dim=-1)[:, None], 64)
        torch.testing.assert_close(soft.maps(batch, 64, True), expected)
        assert not torch.allclose(nearest.maps(batch, 64, True), expected)


def trained_inp_former(seed: int = 7, **sizes: Any) -> InpFormer:
    torch.manual_seed(seed)
    settings = InpFormerSettings(**{"num_prototypes": 3, "grid": 4, "channels": 8} | sizes)
    model = InpFormer(settings, PYRAMID)
    with torch.no_grad():
        for phase in model.phases():
            if isinstance(phase, Fit):
                phase.fit([groups(settings, PYRAMID, seed=2)])
    return model


@pytest.mark.parametrize("memory", [None, MemorySettings(8, 20)])
def test_alone_the_head_is_put_on_a_trained_inp_former(memory: MemorySettings | None) -> None:
    other = trained_inp_former(memory=memory)
    settings = replace(SMALL, num_prototypes=5, head=HeadSettings("alone", (4, 3))).like(other.settings)
    model = InpFormerPlus(settings, PYRAMID)
    model.take_up(other)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    for phase in model.phases():
        if isinstance(phase, Fit):
            phase.fit([groups(settings, PYRAMID)])
            continue
        optimizer = phase.optimizer(phase.network.parameters())
        masks = torch.ones(4, 256, 256)
        loss = phase.loss(phase.network, groups(settings, PYRAMID), Anomalies(groups(settings, PYRAMID, 1), masks), ())
        loss["total"].backward()
        optimizer.step()
    kept: dict[str, Tensor] = model.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in before.items())
    # Half of the map is the INP-Former's own, whatever the branches weigh.
    batch = groups(settings, PYRAMID, seed=3)
    with torch.inference_mode():
        output = model.network(model.target(batch))
        head = to_map(model.head(residual(output, model.unit)).sigmoid().flatten(1)[:, None], 64)
        torch.testing.assert_close(model.maps(batch, 64, False), (other.eval().maps(batch, 64, False) + head) / 2)


def test_a_model_of_other_sizes_is_not_taken_up() -> None:
    model = InpFormerPlus(replace(SMALL, head=HeadSettings("alone", (4, 3))), PYRAMID)
    for sizes in ({"num_prototypes": 5}, {"channels": 6}):
        with pytest.raises(UserError, match="the model which is taken up"):
            model.take_up(trained_inp_former(**sizes))


@pytest.mark.parametrize(
    ("cls", "wrong", "key"),
    [
        (PlusLossSettings, {"squared_weight": -1.0}, "squared_weight"),
        (PlusLossSettings, {"cosine_weight": 0.0, "squared_weight": 0.0}, "cosine_weight"),
        (HeadSettings, {"channels": (8,)}, "channels"),
        (HeadSettings, {"epochs": 0}, "epochs"),
        (
            InpFormerPlusSettings,
            {"head": HeadSettings("alone"), "losses": PlusLossSettings(residual_weight=0.0)},
            "losses.residual_weight",
        ),
        (InpFormerPlusSettings, {"lr": 0.0}, "lr"),
        (InpFormerPlusSettings, {"memory": MemorySettings()}, "memory"),
    ],
)
def test_impossible_settings_are_named(cls: Any, wrong: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=f"^{key} is"):
        cls(**wrong)


def test_a_method_says_what_it_builds_on() -> None:
    method = METHODS["inp_former_pp"]
    assert method.builds_on(SMALL) == ""
    assert method.builds_on(replace(SMALL, head=HeadSettings("alone"))) == "inp_former"
