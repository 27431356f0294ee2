"""GRNR as a method: where a defect lights up, what of an encoder it reads, and what it refuses."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.methods import METHODS
from inpformer.methods.grnr.model import Grnr, even_edges
from inpformer.methods.grnr.settings import GrnrSettings

PYRAMID = EncoderShape((Level(16, 12), Level(8, 20)), None)
OWN = GrnrSettings(neighbours=20)


def levels(images: int = 1, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [1 + torch.rand(images, one.tokens, one.channels, generator=generator) for one in PYRAMID.levels]


def test_levels_come_on_their_own_grids_with_their_own_channels() -> None:
    wants = Grnr.wants(OWN, PYRAMID)
    assert wants.shapes(PYRAMID.levels) == PYRAMID.levels
    groups = levels()
    assert all(torch.equal(one, other) for one, other in zip(wants.of(groups), groups, strict=True))
    four = EncoderShape((Level(32, 8), *PYRAMID.levels, Level(2, 64)), None)
    assert Grnr.wants(OWN, four).shapes(four.levels) == PYRAMID.levels
    assert Grnr.wants(OWN, EncoderShape(four.levels[:3], None)).shapes(four.levels) == PYRAMID.levels
    vit = EncoderShape((Level(6, 12),) * 4, heads=3)
    assert Grnr.wants(OWN, vit).shapes(vit.levels) == (Level(6, 12),) * 2


@pytest.mark.parametrize(("row", "column"), [(8, 8), (2, 2), (0, 7), (15, 7), (7, 0)])
def test_a_defect_lights_up_where_it_is_at_the_edge_too(row: int, column: int) -> None:
    groups, model = levels(), Grnr(OWN, PYRAMID)
    usual = model.maps(groups, 128, zero_shot=False).max()
    generator = torch.Generator().manual_seed(1)
    for group, level in zip(groups, PYRAMID.levels, strict=True):
        share = level.side / 16
        strange = 6 * torch.rand(level.channels, generator=generator)
        group[0, int(row * share) * level.side + int(column * share)] += strange
    found = model.maps(groups, 128, zero_shot=False)[0]
    at = divmod(int(found.argmax()), 256)
    assert found.max() > 2 * usual
    assert abs(at[0] / 16 - row - 0.5) < 2.1
    assert abs(at[1] / 16 - column - 0.5) < 2.1


def test_the_map_is_the_product_of_the_levels_and_the_score_its_largest_value() -> None:
    groups, model = levels(2), Grnr(OWN, PYRAMID)
    maps = model.maps(groups, 128, zero_shot=False)
    torch.testing.assert_close(model.maps([10 * groups[0], groups[1]], 128, False), 10 * maps, rtol=1e-4, atol=0)
    assert model.scores(maps).tolist() == [float(one.max()) for one in maps]


def test_the_edge_of_a_grid_is_brought_down_to_the_usual_and_never_up() -> None:
    grids = torch.rand(2, 40, 40, generator=torch.Generator().manual_seed(0)) + 1
    strange = grids.clone()
    strange[0, 0], strange[0, :, -1] = 9 * grids[0, 0], 9 * grids[0, :, -1]
    strange[1, :2] = 0
    found = even_edges(strange)
    assert torch.equal(found[:, 3:-3, 3:-3], grids[:, 3:-3, 3:-3])
    assert found[0].max() < 20 * grids[0, 3:-3, 3:-3].median()
    assert (found <= strange).all()
    assert even_edges(torch.zeros(1, 8, 8)).eq(0).all()


def test_one_level_and_more_neighbours_than_positions_are_refused() -> None:
    with pytest.raises(UserError, match="levels is 1: it must be two levels"):
        METHODS["grnr"].make(OWN, EncoderShape(PYRAMID.levels[:1], None))
    with pytest.raises(UserError, match=r"^neighbours is 65: it must be at most 64"):
        METHODS["grnr"].make(replace(OWN, neighbours=65), PYRAMID)
    with pytest.raises(UserError, match="side of its coarser level is 2: it must be at least 3"):
        METHODS["grnr"].make(GrnrSettings(neighbours=1), EncoderShape((Level(4, 3), Level(2, 3)), None))


@pytest.mark.parametrize(("key", "value"), [("neighbours", 0), ("neighbours", 10**6), ("weight", -0.1)])
def test_impossible_settings_are_refused_by_their_key(key: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^{key} is {value}: "):
        GrnrSettings(**{key: value})
