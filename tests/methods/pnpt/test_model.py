"""PNPT: whose prompts an image gets, what is rebuilt of it, its training, and what is saved."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from inpformer.backends.graphs import ModelGraph
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.features.objects import Folder
from inpformer.features.shard import key_array
from inpformer.features.store import FeatureStore
from inpformer.features.view_table import Views, Wanted, write_table
from inpformer.methods import METHODS
from inpformer.methods.base import Categorised, FitCategories, Train
from inpformer.methods.pnpt.losses import angle_map, angles
from inpformer.methods.pnpt.model import Pnpt
from inpformer.methods.pnpt.network import ConditionalBlock, Decoded
from inpformer.methods.pnpt.settings import PnptSettings
from inpformer.training.loop import LoopConfig, TrainingLoop, share
from inpformer.training.settings import TrainSettings
from tests.training.made_up import Noise

PYRAMID = EncoderShape((Level(8, 6), Level(4, 10)), None)
COARSE = EncoderShape((Level(4, 6), Level(2, 10)), None)
OWN = PnptSettings(width=8, depth=1, decoder_depth=1, heads=2, epochs=2)
CPU = torch.device("cpu")
CATEGORIES = 3


def made(own: PnptSettings = OWN, shape: EncoderShape = PYRAMID, seed: int = 0) -> Pnpt:
    torch.manual_seed(seed)
    model = METHODS["pnpt"].make(own, shape)
    assert isinstance(model, Pnpt)
    return model


def images(per_category: int, seed: int = 0, shape: EncoderShape = PYRAMID) -> tuple[list[Tensor], Tensor]:
    """Of three categories, whose every place has a direction of its own, with noise; and which category each is of."""
    known, generator = torch.Generator().manual_seed(9), torch.Generator().manual_seed(seed)
    levels = []
    for level in shape.levels:
        normal = torch.randn(CATEGORIES, 1, level.channels, generator=known)
        normal = normal + torch.randn(CATEGORIES, level.tokens, level.channels, generator=known)
        several = normal.repeat(per_category, 1, 1)
        levels.append(several + 0.1 * torch.randn(several.shape, generator=generator))
    return levels, torch.arange(CATEGORIES).repeat(per_category)


def measured(model: Pnpt, numbers: tuple[int, ...] = (0, 1, 2), shape: EncoderShape = PYRAMID) -> Pnpt:
    """The model after its first phase, in batches that do not have all categories."""
    groups, categories = images(3, shape=shape)
    named = torch.tensor(numbers)[categories]
    phase = model.phases()[0]
    assert isinstance(phase, FitCategories)
    with torch.no_grad():
        phase.fit(Categorised([one[part] for one in groups], named[part]) for part in (slice(2), slice(2, None)))
    return model


def training(model: Pnpt) -> Train:
    phase = model.phases()[1]
    assert isinstance(phase, Train)
    return phase


@pytest.mark.parametrize(
    ("key", "value"),
    [("width", 6), ("depth", 0), ("decoder_depth", 0), ("heads", 0), ("epochs", 0), ("fewest_steps", -1), ("lr", 2.0)],
)
def test_impossible_settings_are_refused_by_their_key(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^{key} is {value}"):
        replace(OWN, heads=4, **{key: value}) if key == "width" else replace(OWN, **{key: value})  # type: ignore


def test_it_reads_all_levels_on_their_own_grids_whatever_their_order() -> None:
    levels = (Level(8, 3), Level(2, 7), Level(4, 5))
    assert Pnpt.wants(OWN, EncoderShape(levels, None)).shapes(levels) == (Level(8, 3), Level(4, 5), Level(2, 7))
    vit = EncoderShape((Level(6, 12),) * 4, heads=3)
    assert Pnpt.wants(OWN, vit).shapes(vit.levels) == (Level(6, 12),) * 2
    with pytest.raises(UserError, match=r"side of one of the encoder's levels is 6: it must be a multiple of 4"):
        made(shape=EncoderShape((Level(6, 5), Level(4, 9)), None))


def test_a_look_is_a_categorys_mean_and_new_images_get_the_prompts_of_their_own() -> None:
    model = measured(made(), numbers=(7, 2, 4))  # in the order of the numbers: the second, the third, the first
    assert model.network.prompts.shape == (CATEGORIES, 16, 16)
    assert float(model.network.prompts.detach().std()) == pytest.approx(0.02, rel=0.1)
    groups, categories = images(3)
    directions = [one.mean(dim=1) / one.mean(dim=1).norm(dim=1, keepdim=True) for one in groups]
    means = torch.stack([torch.cat(directions, dim=1)[categories == number].mean(dim=0) for number in (1, 2, 0)])
    torch.testing.assert_close(model.looks, means)
    new, categories = images(4, seed=1)
    assert torch.equal(model.entries(new), torch.tensor([2, 0, 1])[categories])
    brighter = [7 * one for one in new]  # a look is a direction
    assert torch.equal(model.entries(brighter), model.entries(new))


def test_an_images_prompts_are_its_categorys_alone() -> None:
    """Other categories' prompts change nothing and learn nothing from it; its own do."""
    model = measured(made())
    groups, categories = images(1, seed=1)
    with torch.no_grad():
        before = model.maps(groups, 64, False)
        model.network.prompts[1] += torch.randn(16, 16)
        after = model.maps(groups, 64, False)
    assert (before - after).abs().amax(dim=(1, 2)).gt(0).tolist() == [False, True, False]
    training(model).loss(model.network, [one[categories == 2] for one in groups], None, ())["total"].backward()
    gradient = model.network.prompts.grad
    assert gradient is not None
    assert gradient.abs().amax(dim=(1, 2)).gt(0).tolist() == [False, False, True]


def test_of_one_category_there_is_one_entry() -> None:
    model = made()
    phase, (groups, _) = model.phases()[0], images(2)
    assert isinstance(phase, FitCategories)
    phase.fit([Categorised(groups, torch.full((6,), 5))])
    assert len(model.looks) == len(model.network.prompts) == 1
    assert model.entries(groups).tolist() == [0] * 6
    with pytest.raises(UserError, match="add training images"):
        phase.fit([])


def test_places_of_the_decoder_have_only_what_they_ask_the_context_for() -> None:
    """A context that says the same everywhere gives every place the same."""
    torch.manual_seed(0)
    block = ConditionalBlock(8, 2)
    places, said = torch.randn(2, 5, 8), torch.randn(2, 1, 8).expand(-1, 7, -1)
    with torch.no_grad():
        for parameter in block.mlp.parameters():
            parameter.zero_()
        got = block(places, said) - places
        other = block(places, said.flip(0)) - places
    torch.testing.assert_close(got, got[:, :1].expand_as(got))
    torch.testing.assert_close(got, other.flip(0))
    assert not torch.allclose(got[0], got[1])


def test_what_points_the_same_way_differs_by_0_and_the_other_way_by_2_a_level() -> None:
    target = [torch.randn(2, 6, 8, 8), torch.randn(2, 10, 4, 4)]
    same = Decoded(target, [3 * one for one in target])
    against = Decoded(target, [-0.1 * one for one in target])
    for decoded, value in ((same, 0.0), (against, 2.0)):
        assert [one.shape for one in angles(decoded)] == [(2, 8, 8), (2, 4, 4)]
        for one in angles(decoded):
            torch.testing.assert_close(one, torch.full_like(one, value), rtol=0, atol=1e-6)
        torch.testing.assert_close(angle_map(decoded), torch.full((2, 256, 256), 2 * value), rtol=0, atol=1e-5)


def test_the_map_is_where_the_place_is_and_smoothed_by_a_gaussian() -> None:
    target = [torch.ones(1, 6, 8, 8), torch.ones(1, 10, 4, 4)]
    rebuilt = [one.clone() for one in target]
    rebuilt[0][0, :, 2, 5] *= -1
    (found,) = angle_map(Decoded(target, rebuilt))
    row, column = divmod(int(found.argmax()), 256)
    assert (row // 32, column // 32) == (2, 5)
    # A bilinear tent of 64 pixels and height 2 loses 2·(σ·√(2/π)/32) on each axis to a Gaussian at its top.
    assert float(found.max()) == pytest.approx(2 * (1 - 4 * math.sqrt(2 / math.pi) / 32) ** 2, rel=0.02)
    assert found[:32].max() < 1e-3 < found[48:64].max()
    assert made().scores(found[None]).item() == found.max()


def test_a_short_training_rebuilds_normal_places_and_not_a_defect() -> None:
    model = measured(made(replace(OWN, lr=5e-3, width=16), COARSE), shape=COARSE)
    phase, (groups, _) = training(model), images(3, shape=COARSE)
    optimizer = phase.optimizer(model.network.parameters())
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = phase.loss(model.network, groups, None, ())["total"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(2, abs=0.3)  # two levels of which nothing is known
    assert losses[-1] < 0.1 * losses[0]
    new, categories = images(1, seed=5, shape=COARSE)
    broken = [one.clone() for one in new]
    for number in range(CATEGORIES):  # a place that is another category's
        broken[0][number, 9] = new[0][(number + 1) % CATEGORIES, 9]
    assert torch.equal(model.eval().entries(broken), categories)
    with torch.no_grad():
        good, bad = (model.maps(one, 64, False) for one in (new, broken))
    assert (model.scores(bad) > 10 * model.scores(good)).all()
    for one in bad:  # token 9 of 4 × 4 is in row 2, column 1
        row, column = divmod(int(one.argmax()), 256)
        assert (row // 64, column // 64) == (2, 1)


def test_a_loss_is_the_sum_of_its_levels_whatever_their_scale() -> None:
    model = measured(made())
    phase, (groups, _) = training(model), images(1)
    terms = phase.loss(model.network, groups, None, ())
    assert terms.keys() == {"total", "angle_0", "angle_1"}
    decoded = model.network(model.entries(groups), *groups)
    torch.testing.assert_close(terms["angle_1"], angles(decoded)[1].mean())
    torch.testing.assert_close(terms["total"], terms["angle_0"] + terms["angle_1"])
    torch.testing.assert_close(phase.validate(model.network, groups, None), terms["total"])


def test_the_training_is_that_of_its_sister_methods() -> None:
    phase = training(made(PnptSettings(8, 1, 1, 2)))
    optimizer = phase.optimizer(phase.network.parameters())
    assert type(optimizer) is torch.optim.AdamW
    wanted = {"lr": 1e-4, "betas": (0.9, 0.95), "weight_decay": 0.01, "eps": 1e-8}
    assert {key: optimizer.param_groups[0][key] for key in wanted} == wanted
    assert (phase.epochs, phase.clip, {phase.rate(step, 10) for step in range(10)}) == (200, math.inf, {1e-4})


def test_workers_with_uneven_shares_compute_the_step_of_one() -> None:
    model = measured(made())
    phase, (groups, _) = training(model), images(2)
    for mine in (share(6, rank, 4) for rank in range(4)):  # DistributedDataParallel takes the mean of what they add up
        part = phase.loss(model.network, [group[mine] for group in groups], None, ())["total"]
        ((mine.stop - mine.start) / 6 * part).backward()
    shared = {name: one.grad.clone() for name, one in model.network.named_parameters() if one.grad is not None}
    model.network.zero_grad()
    phase.loss(model.network, groups, None, ())["total"].backward()
    for name, one in model.network.named_parameters():
        assert one.grad is not None, name
        torch.testing.assert_close(shared[name], one.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stops", [[1], [2], [1, 2]])
def test_an_interrupted_training_ends_as_if_it_had_not_been(stops: list[int], tmp_path: Path) -> None:
    """After the looks are measured, and after an epoch."""
    config = LoopConfig(TrainSettings(method="pnpt", batch_size=16, own=OWN), PYRAMID, Noise(PYRAMID.levels))  # type: ignore[arg-type]
    straight, broken = (TrainingLoop(config, CPU) for _ in range(2))
    straight.run_to(2)
    done = 0
    for stop in stops:
        for _ in range(stop - done):
            broken.advance()
        done = stop
        broken.save(tmp_path)
        torch.manual_seed(7)
        broken = TrainingLoop(config, CPU)
        broken.load(tmp_path)
    broken.run_to(2)
    assert broken.progress == straight.progress
    left, right = broken.model.tensors(), straight.model.tensors()
    assert [name for name in left | right if not torch.equal(left[name], right[name])] == []
    assert len(right["looks"]) == len(right["network.prompts"]) == 2


@dataclass(frozen=True)
class Stored:
    """The images above in a store, of three categories, all for training; of all or of one."""

    folder: Path
    category: str | None
    kept: None = None

    def open(self) -> Views:
        store, (levels, categories) = FeatureStore(Folder(self.folder), "key"), images(3)
        keys = [f"{number:064x}" for number in range(len(categories))]
        store.add(keys, levels)
        train = np.zeros(len(keys), np.int8)
        wanted = Wanted.of(train, key_array(keys), categories.numpy().astype(np.int16), ("a", "b", "c"))
        write_table(store, wanted, store.scan())
        return Views(store, wanted.digest, self.category)


@pytest.mark.parametrize(("category", "own"), [(None, [0, 1, 2]), ("b", [1])])
def test_the_loop_tells_which_category_a_stored_image_is_of(
    category: str | None, own: list[int], tmp_path: Path
) -> None:
    settings = TrainSettings(method="pnpt", batch_size=2, own=OWN)
    loop = TrainingLoop(LoopConfig(settings, PYRAMID, Stored(tmp_path, category)), CPU)
    loop.advance()
    looks = loop.model.get_buffer("looks")
    assert len(looks) == len(own)
    torch.testing.assert_close(looks, measured(made()).looks[own], rtol=0, atol=1e-3)  # stored in 16 bit


def test_tensors_of_another_model_are_refused_and_leave_this_one_as_it_was() -> None:
    model, other = made(), measured(made())
    before = model.tensors()
    for wrong in ({"looks": torch.zeros(2, 16)}, {"looks": torch.zeros(3, 15)}, {"strange": torch.zeros(1)}):
        with pytest.raises(UserError, match=r"^the file"):
            model.load_tensors(other.tensors() | wrong, "the file")
        assert all(torch.equal(before[name], tensor) for name, tensor in model.tensors().items())
    model.load_tensors(other.tensors(), "the file")
    assert torch.equal(model.network.prompts, other.network.prompts)


@pytest.mark.parametrize("categories", [0, 10**9])
def test_a_file_cannot_ask_for_more_prompts_than_it_has(categories: int) -> None:
    model, other = made(), measured(made())
    looks = torch.zeros(1, 16).expand(categories, 16)  # takes no memory
    prompts = other.network.prompts[:0] if not categories else other.network.prompts
    with pytest.raises(UserError, match=r"^the file"):
        model.load_tensors(other.tensors() | {"looks": looks, "network.prompts": prompts}, "the file")
    assert len(model.looks) == len(model.network.prompts) == 1


def test_an_exported_graph_takes_any_number_of_images_of_any_category() -> None:
    graph = ModelGraph(measured(made()).eval(), 64, zero_shot=False)
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(graph, tuple(images(1)[0]), dynamic_shapes=((batch, batch),))
    groups, _ = images(2, seed=3)
    for some in (slice(1, 2), slice(None)):
        asked = [one[some] for one in groups]
        for one, other in zip(program.module()(*asked), graph(*asked), strict=True):
            torch.testing.assert_close(one, other)
