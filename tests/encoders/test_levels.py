"""What a method takes of an encoder's levels."""

import pytest
import torch

from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.encoders.tokens import token_wants
from inpformer.errors import UserError
from inpformer.features.store import store_key


def ramp(side: int, channels: int) -> torch.Tensor:
    """[2, side², channels]: each token holds its column, from 0 to 1."""
    columns = (torch.arange(side) + 0.5) / side
    return columns.repeat(side)[None, :, None].expand(2, -1, channels)


def test_blocks_are_averaged_group_by_group() -> None:
    blocks = [torch.full((2, 9, 5), float(n)) for n in range(4)]
    groups = Wants(((0, 1), (2, 3))).of(blocks)
    assert [group.unique().tolist() for group in groups] == [[0.5], [2.5]]


def test_levels_come_side_by_side_on_one_grid() -> None:
    fine, coarse = ramp(8, 3), ramp(2, 5)
    wants = Wants(((0, 1),), "channels", (4,))
    (joined,) = wants.of([fine.half(), coarse])
    assert joined.shape == (2, 16, 8)
    assert joined.dtype == torch.float32
    torch.testing.assert_close(joined[..., 0], ramp(4, 1)[..., 0], rtol=0, atol=1e-3)  # pooled
    assert joined[0, :4, 3].tolist() == pytest.approx([0.25, 0.375, 0.625, 0.75])  # enlarged
    assert wants.shapes((Level(8, 3), Level(2, 5))) == (Level(4, 8),)


def test_without_a_grid_each_level_keeps_its_own() -> None:
    wants = Wants(((1,), (0,)))
    assert [tuple(group.shape) for group in wants.of([ramp(8, 3), ramp(2, 5)])] == [(2, 4, 5), (2, 64, 3)]
    assert wants.shapes((Level(8, 3), Level(2, 5))) == (Level(2, 5), Level(8, 3))


def test_a_vits_blocks_are_grouped_by_halves_and_a_pyramids_levels_are_one_group() -> None:
    assert token_wants(EncoderShape((Level(4, 6),) * 6, 2), None) == Wants(((0, 1, 2), (3, 4, 5)))
    assert token_wants(EncoderShape((Level(8, 6), Level(4, 9)), None), 4) == Wants(((0, 1),), "channels", (4,))


def test_what_is_kept_has_a_name_of_its_own_in_the_store() -> None:
    one, other = Wants(((0, 1),), "channels", (4,)), Wants(((0, 1),), "channels", (8,))
    assert store_key("encoder", None) == "encoder"
    assert len({store_key("encoder", kept) for kept in (None, one, other)}) == 3


def test_each_group_may_have_a_grid_of_its_own() -> None:
    fine, coarse = ramp(8, 3), ramp(2, 5)
    wants = Wants(((0, 1), (0,)), "channels", (4, 8))
    found = wants.of([fine, coarse])
    assert [tuple(group.shape) for group in found] == [(2, 16, 8), (2, 64, 3)]
    assert torch.equal(found[0], Wants(((0, 1),), "channels", (4,)).of([fine, coarse])[0])
    assert torch.equal(found[1], fine)
    assert wants.shapes((Level(8, 3), Level(2, 5))) == (Level(4, 8), Level(8, 3))


@pytest.mark.parametrize("grids", [(0,), (4, 4), ()])
def test_grids_that_are_empty_or_not_one_a_group_are_refused(grids: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="grids is"):
        Wants(((0,),), "channels", grids)
