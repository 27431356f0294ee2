"""GLCF as a method: what of an encoder it reads, its statistics, maps and scores, and how it is taught."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.methods import METHODS
from inpformer.methods.base import Fit, Train
from inpformer.methods.glcf.losses import raw_maps
from inpformer.methods.glcf.model import Glcf
from inpformer.methods.glcf.settings import GlcfSettings
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings
from tests.training.made_up import Noise

PYRAMID = EncoderShape((Level(8, 6), Level(4, 10)), None)
OWN = GlcfSettings(width=8, depth=1, heads=2, decoder_heads=4, epochs=2)
CPU = torch.device("cpu")


def made(shape: EncoderShape = PYRAMID, own: GlcfSettings = OWN) -> Glcf:
    torch.manual_seed(0)
    model = METHODS["glcf"].make(own, shape).eval()
    assert isinstance(model, Glcf)
    return model


def noise(images: int, shape: EncoderShape = PYRAMID) -> list[Tensor]:
    generator = torch.Generator().manual_seed(images)
    return [torch.randn(images, one.tokens, one.channels, generator=generator) for one in shape.levels]


def fit(model: Glcf, *batches: list[Tensor]) -> None:
    (phase,) = (one for one in model.phases() if isinstance(one, Fit))
    with torch.no_grad():
        phase.fit(batches)


def test_it_reads_the_coarsest_levels_on_their_own_grids_whatever_their_order() -> None:
    sides = {16: 5, 1: 3, 8: 7, 2: 9, 4: 11}
    levels = tuple(Level(2 * side, channels) for side, channels in sides.items())
    wants = Glcf.wants(OWN, EncoderShape(levels, None))
    assert wants.shapes(levels) == (Level(16, 7), Level(8, 11), Level(4, 9), Level(2, 3))
    vit = EncoderShape((Level(6, 12),) * 4, heads=3)
    assert Glcf.wants(OWN, vit).shapes(vit.levels) == (Level(6, 12),) * 2


def test_grids_may_grow_by_any_whole_number() -> None:
    shape = EncoderShape((Level(12, 4), Level(4, 5), Level(2, 6)), None)
    model = made(shape)
    found = model.network(*noise(2, shape))
    for levels in (found.target, found.local, found.whole, found.expected):
        assert [one.shape[1:] for one in levels] == [(4, 12, 12), (5, 4, 4)]


def test_only_levels_that_are_rectified_are_rebuilt_without_negative_numbers() -> None:
    shape = EncoderShape((Level(12, 4), Level(4, 5), Level(2, 6)), None)
    rectified, free = made(shape), made(shape, replace(OWN, rectified=False))
    groups = noise(2, shape)
    for part in ("local", "whole", "expected"):
        without, with_negative = (getattr(model.network(*groups), part) for model in (rectified, free))
        for one, other in zip(without, with_negative, strict=True):
            assert other.min() < 0
            torch.testing.assert_close(one, other.relu())  # the next level is made of the same


@pytest.mark.parametrize(
    ("levels", "named"),
    [
        ((Level(8, 3),), "number of the network's levels is 1: it must be two levels at least"),
        ((Level(9, 3), Level(4, 3)), "side of one of the encoder's levels is 9: it must be a multiple of 4"),
        ((Level(4, 3), Level(1, 3)), "coarsest level is 1: it must be at least 2"),
    ],
)
def test_levels_that_do_not_suit_are_refused(levels: tuple[Level, ...], named: str) -> None:
    with pytest.raises(UserError, match=named):
        made(EncoderShape(levels, None))


@pytest.mark.parametrize(
    ("key", "value"),
    [("width", 6), ("depth", 0), ("scale_weights", []), ("scale_weights", [1, 0]), ("global_weight", -1), ("lr", 2.0)],
)
def test_impossible_settings_are_refused_by_their_key(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^{key} is "):
        replace(OWN, **{key: value})  # type: ignore[arg-type]


def test_the_weights_of_the_last_levels_count_and_too_few_are_refused() -> None:
    assert made().weights.tolist() == [[0.5], [0.5]]
    three = EncoderShape((Level(16, 4), *PYRAMID.levels), None)
    weights = made(three, replace(OWN, global_weight=3.0)).weights
    torch.testing.assert_close(weights, torch.tensor([[3.0, 6.0], [9.0, 18.0]]) / 36)
    with pytest.raises(UserError, match=r"scale_weights is \[1.0\]: it must be 2 numbers at least"):
        made(three, replace(OWN, scale_weights=(1.0,)))


def test_the_statistics_are_those_of_all_training_pixels_and_standardise_the_maps() -> None:
    model = made()
    groups = noise(5)
    fit(model, [one[:2] for one in groups], [one[2:] for one in groups])
    with torch.no_grad():
        raw = raw_maps(model.network(*groups), 256)
        maps = model.maps(groups, 64, zero_shot=False)
    torch.testing.assert_close(model.mean, raw.mean(dim=(0, 3, 4)))
    torch.testing.assert_close(model.std, raw.std(dim=(0, 3, 4), unbiased=False), rtol=1e-4, atol=0)
    assert float(maps.mean().abs()) < 1e-4
    local, whole = ((raw[:, n, 0] - model.mean[n, 0]) / model.std[n, 0] for n in range(2))
    torch.testing.assert_close(maps, (local + whole) / 2, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="no training features"):
        fit(model)


def test_images_that_are_all_alike_do_not_make_maps_that_are_not_finite() -> None:
    model = made()
    groups = [torch.zeros_like(one) for one in noise(2)]
    fit(model, groups)
    assert torch.isfinite(model.maps(groups, 64, zero_shot=False)).all()


def test_the_global_decoder_learns_from_what_is_expected_of_it() -> None:
    model = made().train()
    (phase,) = (one for one in model.phases() if isinstance(one, Train))
    terms = phase.loss(phase.network, noise(3), None, ())
    named = {name: float(term.detach()) for name, term in terms.items()}
    assert named.pop("total") == pytest.approx(sum(named.values()))
    assert set(named) == {"local", "global", "global_estimate"}
    terms["global_estimate"].backward()
    learning = {name.split(".")[0] for name, one in model.network.named_parameters() if one.grad is not None}
    assert learning == {"bottleneck", "whole", "expected"}


def test_the_rate_falls_to_a_tenth_after_three_fifths_and_never_rises() -> None:
    (phase,) = (one for one in made().phases() if isinstance(one, Train))
    rates = [phase.rate(step, 501) for step in range(501)]
    assert (rates[0], rates[299], rates[300], rates[-1]) == pytest.approx((1e-4, 1e-4, 1e-5, 1e-5))
    assert all(one >= other for one, other in pairwise(rates))


@pytest.mark.parametrize("stops", [[1], [1, 2]])
def test_an_interrupted_training_ends_as_if_it_had_not_been(stops: list[int], tmp_path: Path) -> None:
    """After an epoch, and after the last one, before the statistics are taken."""
    config = LoopConfig(TrainSettings(method="glcf", batch_size=16, own=OWN), PYRAMID, Noise(PYRAMID.levels))
    straight = TrainingLoop(config, CPU)
    while not straight.done:
        straight.advance()
    broken = TrainingLoop(config, CPU)
    for epoch in stops:
        while broken.progress.epoch < epoch:
            broken.advance()
        broken.save(tmp_path)
        broken = TrainingLoop(config, CPU)
        broken.load(tmp_path)
    while not broken.done:
        broken.advance()
    assert broken.progress == straight.progress
    left, right = broken.model.tensors(), straight.model.tensors()
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []
    assert float(right["std"].max()) < 1  # they were taken
    assert right["network.local.stages.0.0.bn1.num_batches_tracked"].item() == 4  # and no step more than in training
