"""RB-AE as a method: what it reads, its references, its two trainings, what they teach, and what is saved of them."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inpformer.backends.graphs import ModelGraph
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.methods import METHODS
from inpformer.methods.base import Anomalies, Fit, Train
from inpformer.methods.rb_ae.model import RbAe
from inpformer.methods.rb_ae.settings import HeadSettings, RbAeSettings
from inpformer.nn.maps import smoothed
from inpformer.training.loop import LoopConfig
from inpformer.training.settings import TrainSettings
from tests.methods.steps import assert_stops_change_nothing, assert_uneven_shares_compute_the_step_of_one
from tests.training.made_up import Noise

PYRAMID = EncoderShape((Level(8, 6), Level(4, 10)), None)
OWN = RbAeSettings(width=8, references=2, epochs=2, head=HeadSettings((4, 3), epochs=2))


def made(own: RbAeSettings = OWN, shape: EncoderShape = PYRAMID) -> RbAe:
    torch.manual_seed(0)
    model = METHODS["rb_ae"].make(own, shape)
    assert isinstance(model, RbAe)
    return model


def textures(count: int, seed: int = 0) -> list[Tensor]:
    """The same kinds of places in each image, anywhere: [B, N, C] a level."""
    kinds = torch.randn(4, 16, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    found = []
    for level, part in zip(PYRAMID.levels, kinds.split([6, 10], dim=1), strict=True):
        which = torch.randint(0, 4, (count, level.tokens), generator=generator)
        found.append(part[which] + 0.1 * torch.randn(count, level.tokens, level.channels, generator=generator) + 3)
    return found


def defective(count: int, seed: int) -> Anomalies:
    """Textures with a square of a quarter of the side, which differs in another direction in each."""
    groups, masks = textures(count, seed), torch.zeros(count, 256, 256)
    generator = torch.Generator().manual_seed(seed)
    for image in range(count):
        row, column = (int(one) for one in torch.randint(0, 4, (2,), generator=generator))
        masks[image, 64 * row : 64 * row + 64, 64 * column : 64 * column + 64] = 1
        for group, level in zip(groups, PYRAMID.levels, strict=True):
            size = level.side // 4
            places = group[image].view(level.side, level.side, -1)
            places[size * row : size * (row + 1), size * column : size * (column + 1)] += 2 * torch.randn(
                level.channels, generator=generator
            )
    return Anomalies(groups, masks)


def trainings(model: RbAe) -> list[Train]:
    return [phase for phase in model.phases() if isinstance(phase, Train)]


def fitted(own: RbAeSettings = OWN) -> RbAe:
    model = made(own)
    with torch.no_grad():
        for phase in model.phases():
            if isinstance(phase, Fit):
                phase.fit([textures(4, seed) for seed in range(2)])
    return model


def learn(model: RbAe, phase: Train, steps: int) -> tuple[float, float]:
    """The validation loss before and after so many steps."""
    held_out = textures(6, seed=900), defective(6, seed=901)
    optimizer = phase.optimizer(phase.network.parameters())
    found = []
    for step in range(steps):
        if step == 0:
            found.append(float(phase.validate(phase.network, *held_out).detach()))
        optimizer.zero_grad()
        phase.loss(phase.network, textures(8, 10 + step), defective(8, 1000 + step), ())["total"].backward()
        optimizer.step()
    return found[0], float(phase.validate(phase.network, *held_out).detach())


def test_it_reads_all_levels_the_finest_first() -> None:
    levels = (Level(2, 7), Level(8, 3), Level(6, 5))
    assert RbAe.wants(OWN, EncoderShape(levels, None)).shapes(levels) == (Level(8, 3), Level(6, 5), Level(2, 7))
    vit = EncoderShape((Level(6, 12),) * 4, heads=3)
    assert RbAe.wants(OWN, vit).shapes(vit.levels) == (Level(6, 12),) * 2


@pytest.mark.parametrize(
    ("key", "value"), [("width", 0), ("perception_weight", 0.0), ("references", 0), ("epochs", 0), ("lr", 2.0)]
)
def test_impossible_settings_are_refused_by_their_key(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^{key} is {value}"):
        replace(OWN, **{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("key", "value"), [("channels", (4,)), ("channels", (4, 0)), ("epochs", 0), ("lr", 0.0)])
def test_impossible_heads_are_refused(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^{key} is "):
        HeadSettings(**{key: value})  # type: ignore[arg-type]


def test_levels_are_standardised_by_the_training_images() -> None:
    model = made()
    first, *_ = model.phases()
    assert isinstance(first, Fit)
    groups = textures(6)
    groups[1][..., 3] = 5.0  # a channel that says nothing
    first.fit([[group[:2] for group in groups], [group[2:] for group in groups]])
    for grid in model._grids(groups):
        mean, deviation = grid.mean(dim=(0, 2, 3)), grid.std(dim=(0, 2, 3), unbiased=False)
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-3)
        constant = deviation < 0.5
        assert int(constant.sum()) == (grid.shape[1] == 10)
        torch.testing.assert_close(deviation[~constant], torch.ones_like(deviation[~constant]), rtol=1e-3, atol=0)
    with pytest.raises(UserError, match="no training features"):
        first.fit([])


def test_references_are_training_images_and_more_than_there_are_are_refused() -> None:
    model, groups = fitted(), textures(4, seed=0) + textures(4, seed=1)
    every = [torch.cat(pair) for pair in zip(groups[:2], groups[2:], strict=True)]
    for kept, group in zip(model.references, every, strict=True):
        same = (kept[:, None] == group.half()).flatten(2).all(dim=2)
        assert same.sum(dim=1).tolist() == [1, 1]
    with pytest.raises(UserError, match="references is 9: it must be at most 8, the number of training images"):
        fitted(replace(OWN, references=9))


def test_the_first_training_is_of_the_network_and_the_second_of_the_head_alone() -> None:
    model = fitted()
    network, head = trainings(model)
    assert (network.anomalies, head.anomalies) == (True, True)
    batch = textures(3), defective(3, seed=5)
    network.loss(network.network, *batch, ())["total"].backward()
    assert all(one.grad is not None for one in model.network.parameters())
    assert all(one.grad is None for one in model.head.parameters())
    model.zero_grad()
    head.loss(head.network, *batch, ())["total"].backward()
    assert all(one.grad is None for one in model.network.parameters())
    assert all(one.grad is not None for one in model.head.parameters())


def test_a_loss_is_the_sum_of_its_terms() -> None:
    network, head = trainings(fitted(replace(OWN, perception_weight=0.3)))
    batch = textures(3), defective(3, seed=5)
    terms = {name: float(one.detach()) for name, one in network.loss(network.network, *batch, ()).items()}
    expected = 0.3 * terms["perception"] + terms["squared"] + terms["structure"]
    assert terms["total"] == pytest.approx(expected)
    assert float(network.validate(network.network, *batch).detach()) == pytest.approx(terms["total"])
    terms = {name: float(one.detach()) for name, one in head.loss(head.network, *batch, ()).items()}
    assert terms["total"] == pytest.approx(terms["dice"] + terms["focal"])


def test_dice_is_of_the_defective_images_alone_and_focal_of_all() -> None:
    model, bad = fitted(), defective(3, seed=5)
    _, head = trainings(model)
    one, other = (head.loss(head.network, textures(3, seed), bad, ()) for seed in (1, 2))
    assert torch.equal(one["dice"], other["dice"])
    assert not torch.equal(one["focal"], other["focal"])


def test_what_lies_below_a_defect_is_not_asked_of_the_reconstruction() -> None:
    """Where all of a picture is defective, nothing is."""
    model = fitted()
    (network, _), bad = trainings(model), defective(3, seed=5)
    everything = Anomalies(bad.groups, torch.ones_like(bad.masks))
    terms = network.loss(network.network, textures(3), everything, ())
    good = network.loss(network.network, textures(3), Anomalies(textures(3), torch.zeros_like(bad.masks)), ())
    for name in ("squared", "structure"):  # half of the images count, with nothing for the others
        assert float(terms[name].detach()) == pytest.approx(float(good[name].detach()) / 2, rel=1e-5)


@pytest.mark.parametrize("number", [0, 1])
def test_workers_with_uneven_shares_compute_the_step_of_one(number: int) -> None:
    assert_uneven_shares_compute_the_step_of_one(trainings(fitted())[number], textures(5), defective(5, seed=5))


def test_a_short_training_finds_a_defect_where_it_is() -> None:
    """Both losses fall, and of pictures that were not learnt from every defect is above every good place."""
    own = replace(OWN, width=16, lr=3e-3, head=HeadSettings((8, 4), lr=3e-3))
    model = fitted(own)
    network, head = trainings(model)
    before, after = learn(model, network, 50)
    assert after < 0.8 * before
    before, after = learn(model, head, 60)
    assert after < 0.8 * before
    model.eval()
    bad, good = defective(8, seed=5000), textures(8, seed=5001)
    with torch.inference_mode():
        maps, clean = model.maps(bad.groups, 64, False), model.maps(good, 64, False)
    inside = torch.stack([one[mask > 0].max() for one, mask in zip(maps, bad.masks, strict=True)])
    outside = (maps * (1 - bad.masks)).flatten(1).median(dim=1).values
    assert (inside > 2 * outside).all()
    assert float(model.scores(maps).min()) > float(model.scores(clean).max())


def test_the_map_is_the_head_s_smoothed_and_the_score_its_largest_value() -> None:
    model = fitted().eval()
    with torch.inference_mode():
        found = model.head(model.residuals(textures(2))).sigmoid()
        large = torch.nn.functional.interpolate(found[:, None], (256, 256), mode="bilinear", align_corners=False)
        maps = model.maps(textures(2), 64, False)
        torch.testing.assert_close(maps, smoothed(large[:, 0], 4.0))
        assert model.scores(maps).tolist() == maps.flatten(1).max(dim=1).values.tolist()


def test_residuals_are_of_directions_and_none_where_an_image_is_repaired_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, groups = fitted(), textures(2)
    with torch.no_grad():
        found, repaired = model.network.repair(*model._inputs(groups))
        residuals = model.residuals(groups)
        assert residuals.shape == (2, 16, 8, 8)
        one, other = found[0][1, :, 2, 3], repaired[0][1, :, 2, 3]
        torch.testing.assert_close(residuals[1, :8, 2, 3], (one / one.norm() - other / other.norm()).abs())
        monkeypatch.setattr(model.network, "repair", lambda *_: (found, [3 * one for one in found]))
        assert float(model.residuals(groups).max()) < 1e-6


@pytest.mark.parametrize("stops", [[1], [2], [3], [1, 3]])
def test_an_interrupted_training_ends_as_if_it_had_not_been(stops: list[int], tmp_path: Path) -> None:
    """In the first training, between the two, and in the second."""
    settings = TrainSettings(method="rb_ae", batch_size=16, own=OWN)
    noise = Noise(PYRAMID.levels)
    config = LoopConfig(settings, PYRAMID, noise, replace(noise, masked=True))  # type: ignore[arg-type]
    straight = assert_stops_change_nothing(config, stops, tmp_path)
    assert ["perception" in row for row in straight.progress.history] == [True, True, False, False]


def test_in_16_bit_it_learns_too() -> None:
    """Products in bfloat16, as the loop has them on a GPU."""
    model = fitted()
    for phase in trainings(model):
        network = phase.network

        def forward(*inputs: object, network: torch.nn.Module = network) -> object:
            with torch.autocast("cpu", torch.bfloat16):
                return network(*inputs)

        exact = phase.loss(network, textures(3), defective(3, seed=5), ())
        terms = phase.loss(forward, textures(3), defective(3, seed=5), ())
        assert {one.dtype for one in terms.values()} == {torch.float32}
        assert {name: float(one.detach()) for name, one in terms.items()} == pytest.approx(
            {name: float(one.detach()) for name, one in exact.items()}, rel=0.05
        )
        terms["total"].backward()
        gradients = [one.grad for one in network.parameters() if one.grad is not None]
        assert all(math.isfinite(float(one.norm())) for one in gradients)


def test_an_exported_graph_takes_any_number_of_images() -> None:
    graph = ModelGraph(fitted().eval(), 64, zero_shot=False)
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(graph, tuple(textures(2)), dynamic_shapes=((batch, batch),))
    for images in (1, 3):
        for one, other in zip(program.module()(*textures(images)), graph(*textures(images)), strict=True):
            torch.testing.assert_close(one, other)
