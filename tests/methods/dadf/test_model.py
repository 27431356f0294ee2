"""DADF as a method: what of an encoder it reads, its two trainings, and what is saved of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inpformer.backends.graphs import ModelGraph
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.methods import METHODS
from inpformer.methods.base import Train
from inpformer.methods.dadf.losses import surprises
from inpformer.methods.dadf.model import Dadf
from inpformer.methods.dadf.settings import DadfSettings, FlowSettings
from inpformer.training.loop import LoopConfig
from inpformer.training.settings import TrainSettings
from tests.methods.steps import assert_stops_change_nothing, assert_uneven_shares_compute_the_step_of_one
from tests.training.made_up import Noise

PYRAMID = EncoderShape((Level(6, 5), Level(2, 9)), None)
OWN = DadfSettings(width=8, depth=1, heads=2, epochs=2, flow=FlowSettings(depth=2, epochs=2))


def made(shape: EncoderShape = PYRAMID, seed: int = 0) -> Dadf:
    torch.manual_seed(seed)
    model = METHODS["dadf"].make(OWN, shape)
    assert isinstance(model, Dadf)
    return model


def noise(images: int, shape: EncoderShape = PYRAMID) -> list[Tensor]:
    generator = torch.Generator().manual_seed(images)
    return [torch.randn(images, one.tokens, one.channels, generator=generator) for one in shape.levels]


def trainings(model: Dadf) -> list[Train]:
    return [phase for phase in model.phases() if isinstance(phase, Train)]


def test_it_reads_all_levels_on_their_own_grids_whatever_their_order() -> None:
    levels = (Level(8, 3), Level(2, 7), Level(6, 5))
    assert Dadf.wants(OWN, EncoderShape(levels, None)).shapes(levels) == (Level(8, 3), Level(6, 5), Level(2, 7))
    vit = EncoderShape((Level(6, 12),) * 4, heads=3)
    assert Dadf.wants(OWN, vit).shapes(vit.levels) == (Level(6, 12),) * 2


@pytest.mark.parametrize("levels", [(Level(6, 5), Level(4, 9)), (Level(4, 9), Level(9, 5), Level(12, 3))])
def test_grids_that_patches_do_not_fit_are_refused(levels: tuple[Level, ...]) -> None:
    with pytest.raises(UserError, match=r"side of one of the encoder's levels is [69]: it must be a multiple of 4"):
        made(EncoderShape(levels, None))


@pytest.mark.parametrize(
    ("key", "value"), [("width", 6), ("width", 4), ("depth", 0), ("heads", 0), ("epochs", 0), ("lr", 2.0)]
)
def test_impossible_settings_are_refused_by_their_key(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^{key} is {value}"):
        replace(OWN, heads=8, **{key: value}) if key == "width" else replace(OWN, **{key: value})  # type: ignore


@pytest.mark.parametrize(("key", "value"), [("depth", 0), ("epochs", 0), ("fewest_steps", -1), ("lr", 0.0)])
def test_impossible_flows_are_refused(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^{key} is {value}"):
        FlowSettings(**{key: value})  # type: ignore[arg-type]


def test_levels_come_back_on_their_grids_and_flows_see_three_of_each() -> None:
    model = made()
    rebuilt = model.reconstruction(*noise(3))
    for levels in (rebuilt.target, rebuilt.sample, rebuilt.memory):
        assert [one.shape for one in levels] == [(3, 5, 6, 6), (3, 9, 2, 2)]
    assert [flow.norm.normalized_shape for flow in model.flows.levels] == [(15, 6, 6), (27, 2, 2)]  # type: ignore


def test_permutations_are_drawn_with_the_seed_and_saved() -> None:
    names = {f"flows.levels.{level}.steps.{step}.permutation" for level in range(2) for step in range(2)}
    one, same, other = (made(seed=seed).tensors() for seed in (0, 0, 1))
    assert names <= one.keys()
    assert all(torch.equal(one[name], same[name]) for name in names)
    assert any(not torch.equal(one[name], other[name]) for name in names)


def test_flows_are_trained_alone_by_their_authors_loss_which_reads_as_a_number_s() -> None:
    model, groups = made(), noise(3)
    _, phase = trainings(model)
    phase.loss(phase.network, groups, None, ())["total"].backward()
    assert all(one.grad is None for one in model.reconstruction.parameters())
    found = {name: one.grad.clone() for name, one in model.flows.named_parameters() if one.grad is not None}
    model.flows.zero_grad()
    nats = surprises(model.flows(*model._frozen(groups)))
    nats.sum().backward()
    nats = nats.detach()
    for name, parameter in model.flows.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)
    numbers = torch.tensor([3 * 5 * 36, 3 * 9 * 4])
    terms = {name: one.detach() for name, one in phase.loss(phase.network, groups, None, ()).items()}
    torch.testing.assert_close(terms["total"], nats.sum() / numbers.sum())
    torch.testing.assert_close(torch.stack([terms["flow_0"], terms["flow_1"]]), nats / numbers)
    torch.testing.assert_close(phase.validate(phase.network, groups, None).detach(), terms["total"])


@pytest.mark.parametrize("number", [0, 1])
def test_workers_with_uneven_shares_compute_the_step_of_one(number: int) -> None:
    assert_uneven_shares_compute_the_step_of_one(trainings(made())[number], noise(5))


def test_both_trainings_are_their_authors() -> None:
    reconstruct, flows = trainings(METHODS["dadf"].make(DadfSettings(8, 1, 2), PYRAMID))  # type: ignore[arg-type]
    first, second = (one.optimizer(one.network.parameters()) for one in (reconstruct, flows))
    assert (type(first), type(second)) == (torch.optim.AdamW, torch.optim.Adam)
    wanted = {"lr": 1e-4, "betas": (0.9, 0.95), "weight_decay": 0.01, "eps": 1e-8}
    assert {key: first.param_groups[0][key] for key in wanted} == wanted
    wanted = {"lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 1e-5, "eps": 1e-8}
    assert {key: second.param_groups[0][key] for key in wanted} == wanted
    assert (reconstruct.epochs, flows.epochs) == (200, 15)
    assert {one.rate(step, 10) for one in (reconstruct, flows) for step in range(10)} == {1e-4, 1e-3}


def test_the_score_is_the_largest_value_of_a_map() -> None:
    maps = torch.zeros(2, 256, 256)
    maps[1, 7, 9] = 3.0
    assert made().scores(maps).tolist() == [0.0, 3.0]


@pytest.mark.parametrize("stops", [[1], [2], [3], [1, 3]])
def test_an_interrupted_training_ends_as_if_it_had_not_been(stops: list[int], tmp_path: Path) -> None:
    """In the first training, between the two, and in the second."""
    settings = TrainSettings(method="dadf", batch_size=16, own=OWN)
    config = LoopConfig(settings, PYRAMID, Noise(PYRAMID.levels))  # type: ignore[arg-type]
    straight = assert_stops_change_nothing(config, stops, tmp_path)
    assert [set(row) >= {"sample", "memory"} for row in straight.progress.history] == [True, True, False, False]


def test_an_exported_graph_takes_any_number_of_images() -> None:
    graph = ModelGraph(made().eval(), 64, zero_shot=False)
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(graph, tuple(noise(2)), dynamic_shapes=((batch, batch),))
    for images in (1, 3):
        for one, other in zip(program.module()(*noise(images)), graph(*noise(images)), strict=True):
            torch.testing.assert_close(one, other)
