"""AMI-Net as a method: what it reads and refuses, its losses, and that what it draws at random comes again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.methods import METHODS
from inpformer.methods.ami_net.model import AmiNet
from inpformer.methods.ami_net.settings import AmiNetSettings
from inpformer.methods.base import Train
from inpformer.nn.patches import on_one_grid
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings
from tests.training.made_up import Noise

PYRAMID = EncoderShape((Level(8, 6), Level(4, 10)), None)
OWN = AmiNetSettings(patch=2, width=16, depth=1, heads=2, clusters=3, epochs=2)

# Of a batch of four: which images, and their seeds.
SHARES = [(slice(0, 2), [1, 2]), (slice(2, 4), [3, 4])]


def made(shape: EncoderShape = PYRAMID, own: AmiNetSettings = OWN) -> AmiNet:
    torch.manual_seed(0)
    model = METHODS["ami_net"].make(own, shape).eval()
    assert isinstance(model, AmiNet)
    return model


def noise(images: int, shape: EncoderShape = PYRAMID) -> list[Tensor]:
    generator = torch.Generator().manual_seed(images)
    return [torch.randn(images, one.tokens, one.channels, generator=generator) for one in shape.levels]


def phase_of(model: AmiNet) -> Train:
    (phase,) = model.phases()
    assert isinstance(phase, Train)
    return phase


def test_cells_are_means_of_their_neighbourhood_with_zeros_beyond() -> None:
    groups = noise(2)
    grid = made().grid(groups)
    torch.testing.assert_close(grid[:, :, 0, 0], on_one_grid(groups, 8)[:, :, :2, :2].sum(dim=(2, 3)) / 9)
    assert grid.shape == (2, 16, 8, 8)


@pytest.mark.parametrize(("key", "value"), [("clusters", 1), ("deviations", 11.0), ("jitter", -1.0)])
def test_impossible_settings_are_refused_by_their_key(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^{key} is "):
        replace(OWN, **{key: value})


def test_the_total_is_the_sum_of_its_terms() -> None:
    model = made().train()
    terms = phase_of(model).loss(model.network, noise(3), None, range(3))
    found = {name: float(term.detach()) for name, term in terms.items()}
    total = 5 * found["cosine"] + found["squared"] + found["token"] - 0.1 * found["centre"]
    assert found["total"] == pytest.approx(total)
    assert min(found.values()) > 0


def test_without_noise_and_with_nothing_hidden_the_pass_is_the_plain_one() -> None:
    model = made()
    grid = model.grid(noise(2))
    nothing = torch.zeros(2, 16, dtype=torch.bool)
    plain = model.network(grid, nothing)
    quiet = model.network(grid, nothing, torch.zeros(2, 2, 16, 16))
    torch.testing.assert_close(quiet.rebuilt, plain.rebuilt)
    every = model.network(grid, ~nothing, torch.ones(2, 2, 16, 16))
    again = model.network(grid.roll(1, 0), ~nothing, torch.ones(2, 2, 16, 16))
    torch.testing.assert_close(every.rebuilt, again.rebuilt)  # mask tokens are zeros at first: noise leaves them so
    assert not torch.equal(every.centres, again.centres)


def test_what_a_hidden_place_holds_does_not_reach_the_others() -> None:
    """Unless it moves the clusters, and so what else is hidden: here all of that is given."""
    model = made()
    grid = model.grid(noise(2))
    hidden = torch.zeros(2, 16, dtype=torch.bool)
    hidden[:, 5] = True
    other = grid.clone()
    other[:, :, 2:4, 2:4] = 9.0  # the patch of token 5
    one, changed = (model.network(which, hidden).rebuilt for which in (grid, other))
    assert torch.equal(one, changed)
    assert not torch.equal(*(model.network(which, ~hidden).rebuilt for which in (grid, other)))


def test_the_same_seeds_give_the_same_losses_and_others_do_not() -> None:
    model, groups = made().train(), noise(4)
    loss = phase_of(model).loss
    totals = [
        float(loss(model.network, groups, None, seeds)["total"].detach()) for seeds in ([1, 2, 3, 4], [1, 2, 3, 5])
    ]
    assert totals[0] != totals[1]
    # Two workers with half of the batch each have the mean of their losses.
    halves = [loss(model.network, [one[part] for one in groups], None, seeds)["total"] for part, seeds in SHARES]
    assert float(torch.stack(halves).detach().mean()) == pytest.approx(totals[0], rel=1e-5)


def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    config = LoopConfig(TrainSettings(method="ami_net", batch_size=16, own=OWN), PYRAMID, Noise(PYRAMID.levels))
    straight, broken, again = (TrainingLoop(config, torch.device("cpu")) for _ in range(3))
    straight.run_to(2)
    broken.run_to(1)
    broken.save(tmp_path)
    again.load(tmp_path)
    again.run_to(2)
    assert again.progress == straight.progress
    left, right = again.model.tensors(), straight.model.tensors()
    assert [name for name in left | right if not torch.equal(left[name], right[name])] == []
    assert {"token", "centre", "cosine", "squared"} <= straight.progress.history[-1].keys()
