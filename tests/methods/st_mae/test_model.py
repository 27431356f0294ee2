"""ST-MAE as a method: how it divides an image, and that its orders come again."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.methods import METHODS
from inpformer.methods.base import Train
from inpformer.methods.st_mae.model import StMae
from inpformer.methods.st_mae.settings import StMaeSettings
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings
from tests.training.made_up import Noise

PYRAMID = EncoderShape((Level(8, 6), Level(4, 10)), None)
SMALL = {"width": 16, "depth": 1, "heads": 2, "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2}
OWN = StMaeSettings(patch=2, **SMALL, splits=3, epochs=2)


def made(shape: EncoderShape = PYRAMID, own: StMaeSettings = OWN) -> StMae:
    torch.manual_seed(0)
    model = METHODS["st_mae"].make(own, shape).eval()
    assert isinstance(model, StMae)
    return model


def noise(images: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(images)
    return [torch.randn(images, one.tokens, one.channels, generator=generator) for one in PYRAMID.levels]


def test_an_odd_number_of_patches_is_refused_and_the_splits_of_all_models_are_the_same() -> None:
    with pytest.raises(UserError, match=r"^patch is 3: it must be another divisor of 9, .* 9 patches cannot be halved"):
        made(EncoderShape((Level(9, 6),), None), StMaeSettings(patch=3, **SMALL))
    splits = made().splits
    assert splits.sort(dim=1).values.tolist() == [list(range(16))] * 3
    assert len({tuple(order[:8].sort().values.tolist()) for order in splits}) == 3
    torch.manual_seed(1)
    assert torch.equal(StMae(OWN, PYRAMID).splits, splits)


def test_a_place_without_its_half_is_rebuilt_without_itself() -> None:
    """Its own patch does not move what is made of it; those of the other half do."""
    network = made().network
    torch.nn.init.zeros_(network.decoder.blocks[0].attn.proj.weight)  # what one place tells another in the decoder
    grid = made().grid(noise(1))
    orders = torch.arange(16).roll(8)[None]  # the first half is tokens 8 to 15
    with torch.no_grad():
        plain = network(grid, orders)[1]
        other = grid.clone()
        other[:, :, :2, :2] += 1  # the patch of token 0
        changed = (network(other, orders)[1] - plain).abs().amax(dim=(0, 2)) > 1e-6
    assert changed.tolist() == [False] * 8 + [True] * 8


def test_a_map_is_the_mean_over_the_splits() -> None:
    model, groups = made(), noise(2)
    with torch.no_grad():
        found = model.maps(groups, 64, zero_shot=False)
        each = []
        for order in model.splits:
            model.splits = order[None]
            each.append(model.maps(groups, 64, zero_shot=False))
    torch.testing.assert_close(found, torch.stack(each).mean(dim=0))
    assert not torch.allclose(each[0], each[1])


def test_an_image_is_divided_by_its_own_seed() -> None:
    model, groups = made().train(), noise(4)
    (phase,) = model.phases()
    assert isinstance(phase, Train)
    total, other, *halves = (
        float(phase.loss(model.network, [one[part] for one in groups], None, seeds)["total"].detach())
        for part, seeds in (
            (slice(4), [1, 2, 3, 4]),
            (slice(4), [1, 2, 3, 5]),
            (slice(0, 2), [1, 2]),
            (slice(2, 4), [3, 4]),
        )
    )
    assert total != other
    assert sum(halves) / 2 == pytest.approx(total, rel=1e-5)


def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    config = LoopConfig(TrainSettings(method="st_mae", batch_size=16, own=OWN), PYRAMID, Noise(PYRAMID.levels))
    straight, broken, again = (TrainingLoop(config, torch.device("cpu")) for _ in range(3))
    straight.run_to(2)
    broken.run_to(1)
    broken.save(tmp_path)
    again.load(tmp_path)
    again.run_to(2)
    assert again.progress == straight.progress
    left, right = again.model.tensors(), straight.model.tensors()
    assert [name for name in left | right if not torch.equal(left[name], right[name])] == []
