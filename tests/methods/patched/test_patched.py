"""What methods that rebuild patches refuse, whichever it is."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.methods import METHODS
from inpformer.methods.patched.settings import MaeSettings

OWN = MaeSettings(width=16, depth=1, heads=2, decoder_width=16, decoder_heads=2)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"patch": 0}, "patch"),
        ({"depth": 0}, "depth"),
        ({"heads": 0}, "heads"),
        ({"heads": 3}, "width"),
        ({"width": 18}, "width"),
        ({"decoder_depth": 101}, "decoder_depth"),
        ({"decoder_width": 0}, "decoder_width"),
        ({"epochs": 0}, "epochs"),
        ({"fewest_steps": -1}, "fewest_steps"),
        ({"lr": 2.0}, "lr"),
    ],
)
def test_impossible_values_are_refused_by_their_key(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=f"^{named} is "):
        replace(OWN, **changed)


@pytest.mark.parametrize("name", ["ami_net", "tfa_net", "st_mae"])
def test_patches_that_do_not_fill_the_finest_grid_are_refused(name: str) -> None:
    own = METHODS[name].settings(patch=3, width=8, heads=2)
    with pytest.raises(UserError, match=r"^patch is 3: it must be a divisor of 8"):
        METHODS[name].make(own, EncoderShape((Level(4, 6), Level(8, 6)), None))


@pytest.mark.parametrize(("side", "patch"), [(28, 4), (6, 1)])
def test_the_halves_of_a_vit_are_one_grid(side: int, patch: int) -> None:
    own = METHODS["ami_net"].settings(patch=patch, width=16, depth=1, heads=2)
    model: Any = METHODS["ami_net"].make(own, EncoderShape((Level(side, 12),) * 4, heads=3))
    assert (model.side, model.channels, len(model.network.positions)) == (side, 24, (side // patch) ** 2)


def test_channels_are_divided_by_their_size_where_that_is_asked() -> None:
    shape = EncoderShape((Level(8, 3), Level(4, 2)), None)
    groups = [torch.randn(6, 64, 3) * torch.tensor([0.1, 5.0, 0.0]) + 2, torch.randn(6, 16, 2) * 100]
    groups[0][..., 2] = 0  # a channel that says nothing
    own = METHODS["st_mae"].settings(
        patch=2, width=16, depth=1, heads=2, decoder_width=16, decoder_heads=2, scaled=True
    )
    model: Any = METHODS["st_mae"].make(own, shape)
    plain = model.grid(groups)
    (fit, _) = model.phases()
    fit.fit([[one[:4] for one in groups], [one[4:] for one in groups]])
    sizes = torch.cat([one.flatten(0, 1).square().mean(dim=0).sqrt() for one in groups])
    torch.testing.assert_close(model.grid(groups)[:, :2], plain[:, :2] / sizes[:2, None, None])
    torch.testing.assert_close(model.grid(groups)[:, 3:], plain[:, 3:] / sizes[3:, None, None])
    assert torch.equal(model.grid(groups)[:, 2], plain[:, 2])
    assert model.sizes[2] > 0
    assert METHODS["st_mae"].make(replace(own, scaled=False), shape).phases()[0].epochs == 400
