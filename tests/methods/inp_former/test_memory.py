"""INP-Former's map with a memory beside the reconstruction."""

from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

from inpformer.config import build
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.methods.base import Fit, Groups
from inpformer.methods.inp_former.losses import distance_maps
from inpformer.methods.inp_former.model import InpFormer
from inpformer.methods.inp_former.settings import InpFormerSettings, MemorySettings
from inpformer.methods.inp_former_pp.settings import InpFormerPlusSettings
from inpformer.nn.maps import to_map

PYRAMID = EncoderShape((Level(8, 6), Level(4, 10)), heads=None)
VIT = EncoderShape((Level(4, 12),) * 8, heads=3)
SETTINGS = InpFormerSettings(grid=4, channels=8, epochs=1, memory=MemorySettings(grid=8, tokens=64, weight=0.25))


def noise(images: int, seed: int = 0) -> Groups:
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.randn(images, level.tokens, level.channels, generator=generator) for level in PYRAMID.levels]
    return InpFormer.wants(SETTINGS, PYRAMID).of(levels)


def fitted(images: int = 6, settings: InpFormerSettings = SETTINGS) -> InpFormer:
    """Its phases without gradient are over; the network is as it was made."""
    torch.manual_seed(0)
    model = InpFormer(settings, PYRAMID).eval()
    with torch.no_grad():
        for phase in model.phases():
            if isinstance(phase, Fit):
                phase.fit([noise(4), noise(2, seed=1)][: 1 + (images > 4)])
    return model


def neighbourhoods(fine: Tensor, reach: int) -> Tensor:
    """[B, 64, C], each token the mean of those at most so many rows and columns away."""
    image, means = fine.view(-1, 8, 8, 8), torch.empty_like(fine)
    for row in range(8):
        for column in range(8):
            rows, columns = (
                slice(max(0, row - reach), row + reach + 1),
                slice(max(0, column - reach), column + reach + 1),
            )
            means[:, 8 * row + column] = image[:, rows, columns].mean(dim=(1, 2))
    return means


def parts(model: InpFormer, groups: Groups) -> tuple[Tensor, Tensor]:
    """Lengths of errors [B, 1, 16] and distances to the memory [B, 1, 64], directly."""
    assert model.projection is not None
    coarse, fine = (model.projection(group) for group in groups)
    output = model.network(coarse[:, None])
    assert model.settings.memory is not None
    around = neighbourhoods(fine, model.settings.memory.pool // 2)
    away = (around[:, :, None] - model.memory).norm(dim=3).amin(dim=2)
    return (distance_maps(output.target, output.decoded)).sqrt(), away[:, None]


@pytest.mark.parametrize("pool", [1, 3, 5])
@torch.no_grad()
def test_the_map_is_the_mean_of_error_and_distance_in_units_of_the_training_images(pool: int) -> None:
    assert SETTINGS.memory is not None
    settings = replace(SETTINGS, memory=replace(SETTINGS.memory, pool=pool))
    model, groups = fitted(settings=settings), noise(3, seed=5)
    assert model.memory.shape == (64, 8)
    errors, away = parts(model, groups)
    train = [parts(model, batch) for batch in (noise(4), noise(2, seed=1))]
    scales = [torch.cat([both[n].flatten() for both in train]).mean() for n in (0, 1)]
    torch.testing.assert_close(model.scales, torch.stack(scales), atol=1e-3, rtol=1e-3)
    expected = (to_map(errors / scales[0], 32) + 0.25 * to_map(away / scales[1], 32)) / 1.25
    torch.testing.assert_close(model.maps(groups, 32, zero_shot=False), expected, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_a_strange_token_lights_up_where_it_is() -> None:
    model, groups = fitted(), noise(1, seed=1)
    for group in groups:
        group[0, 0] += 20  # the upper left corner
    found = model.maps(groups, 32, zero_shot=False)[0]
    assert found[:32, :32].max() == found.max() > 2 * found[128:, 128:].max()


@torch.no_grad()
def test_zero_shot_asks_no_memory() -> None:
    model, groups = fitted(), noise(2, seed=5)
    before = model.maps(groups, 32, zero_shot=True)
    model.memory, model.scales = model.memory[:1] + 100, model.scales * 7
    assert torch.equal(model.maps(groups, 32, zero_shot=True), before)


def test_a_memory_of_any_length_is_read_back_and_a_wrong_file_leaves_it_as_it_was() -> None:
    model = fitted()
    again = InpFormer(SETTINGS, PYRAMID)
    again.load_tensors(model.tensors(), "the file")
    assert torch.equal(again.memory, model.memory)
    broken = {name: tensor for name, tensor in model.tensors().items() if name != "scales"} | {
        "memory": torch.ones(9, 8)
    }
    with pytest.raises(UserError, match=r"^the file: scales is missing"):
        again.load_tensors(broken, "the file")
    assert torch.equal(again.memory, model.memory)


@torch.no_grad()
def test_the_network_is_trained_as_without_a_memory() -> None:
    """What the memory's grid is, it sees the levels on its own."""
    plain, groups = InpFormer(replace(SETTINGS, memory=None), PYRAMID), noise(3)
    with_memory = InpFormer(replace(SETTINGS, memory=MemorySettings(grid=7)), PYRAMID)
    for model, batch in ((plain, groups[:1]), (with_memory, groups)):
        fit = model.phases()[0]
        assert isinstance(fit, Fit)
        fit.fit([batch])
    assert torch.equal(with_memory.target(groups), plain.target(groups[:1]))


def test_an_empty_memory_is_said() -> None:
    with pytest.raises(UserError, match="memory of normal tokens is empty"):
        InpFormer(SETTINGS, PYRAMID).maps(noise(1), 32, zero_shot=False)


def test_without_a_memory_nothing_more_is_saved() -> None:
    plain = InpFormer(InpFormerSettings(grid=4, channels=8), PYRAMID)
    assert set(InpFormer(SETTINGS, PYRAMID).tensors()) - set(plain.tensors()) == {"memory", "scales"}


@pytest.mark.parametrize(
    ("memory", "key"),
    [
        ({"grid": 0}, "train.memory.grid is 0"),
        ({"tokens": 0}, "train.memory.tokens is 0"),
        ({"tokens": 2**16 + 1}, "train.memory.tokens is 65537"),
        ({"pool": 2}, "train.memory.pool is 2"),
        ({"pool": 9, "grid": 8}, "train.memory.pool is 9"),
        ({"weight": 0}, "train.memory.weight is 0"),
        ({"share": 1}, "train.memory.share is not a known key"),
    ],
)
def test_an_impossible_memory_is_refused_by_its_key(memory: dict[str, float], key: str) -> None:
    with pytest.raises(UserError, match=key):
        build(InpFormerSettings, {"grid": 4, "channels": 8, "memory": memory}, "train")


def test_who_has_no_memory_refuses_one() -> None:
    with pytest.raises(UserError, match=r"memory.grid is 8: .* null for ViTs"):
        InpFormerSettings(grid=None, channels=None, memory=MemorySettings(grid=8))
    with pytest.raises(UserError, match=r"^memory is "):
        InpFormerPlusSettings(grid=4, channels=8, memory=MemorySettings(grid=8))
    with pytest.raises(UserError, match=r"^grid is 4: .* null: a ViT"):
        InpFormer.wants(SETTINGS, VIT)


def test_settings_come_back_from_json() -> None:
    assert build(InpFormerSettings, asdict(SETTINGS), "train") == SETTINGS
