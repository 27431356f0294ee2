"""SCL-VI as a method: what it reads, what it learns from, what it remembers, and its maps."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.methods import METHODS
from inpformer.methods.base import Fit, Terms, Train
from inpformer.methods.scl_vi.model import SclVi
from inpformer.methods.scl_vi.settings import SclViSettings
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings
from tests.training.made_up import Noise

SIDE = 192
SHAPE = EncoderShape((Level(SIDE // 8, 6), Level(SIDE, 3)), None, picture=1)
OWN = SclViSettings(width=24, dimension=8, pairs=1, strides=(64, 32), bank=1000, epochs=1)
CPU = torch.device("cpu")


def made(own: SclViSettings = OWN) -> SclVi:
    torch.manual_seed(0)
    model = METHODS["scl_vi"].make(own, SHAPE).eval()
    assert isinstance(model, SclVi)
    return model


def pictures(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (count, SIDE**2, 3), generator=generator).float()]


def fit(model: SclVi, *batches: list[Tensor]) -> SclVi:
    """What is taken of training images without steps."""
    for phase in model.phases():
        if isinstance(phase, Fit):
            with torch.no_grad():
                phase.fit(batches)
    return model


@pytest.fixture(scope="module")
def fitted() -> SclVi:
    return fit(made(), pictures(2))


def terms(model: SclVi, groups: list[Tensor], seeds: Sequence[int]) -> Terms:
    (phase,) = (one for one in model.phases() if isinstance(one, Train))
    return phase.loss(phase.network, groups, None, seeds)


def test_it_reads_the_picture_wherever_it_is_among_the_levels() -> None:
    assert SclVi.wants(OWN, SHAPE).shapes(SHAPE.levels) == (Level(SIDE, 3),)


@pytest.mark.parametrize(("side", "example"), [(189, 192), (176, 192), (200, 192), (64, 192)])
def test_a_picture_that_patches_do_not_cover_is_refused(side: int, example: int) -> None:
    shape = EncoderShape((Level(side, 3),), None, picture=0)
    with pytest.raises(UserError, match=rf"features\.encoder\.crop, is {side}: .* e\.g\. {example}"):
        SclVi.wants(SclViSettings(), shape)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("width", 32),
        ("width", 0),
        ("dimension", 12),
        ("pairs", 0),
        ("svdd_weight", -1.0),
        ("strides", (16,)),
        ("strides", (16, 5)),
        ("strides", (20, 8)),
        ("strides", (16, 0)),
        ("neighbours", 0),
        ("bank", 0),
        ("epochs", 0),
        ("lr", 0.0),
    ],
)
def test_impossible_settings_are_refused_by_their_key(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^{key} is "):
        replace(OWN, **{key: value})  # type: ignore[arg-type]


def test_the_mean_image_is_that_of_all_training_images_and_is_taken_off() -> None:
    model, groups = made(), pictures(5)
    (phase, *_) = model.phases()
    assert isinstance(phase, Fit)
    phase.fit([[groups[0][:2]], [groups[0][2:]]])
    torch.testing.assert_close(model.mean, groups[0].mean(dim=0))
    seen = model._pictures([model.mean[None] + 51.0])
    torch.testing.assert_close(seen, torch.full((1, 3, SIDE, SIDE), 0.2))
    spot = model.mean[None].clone()
    spot[0, 5 * SIDE + 9, 2] += 255
    assert float(model._pictures([spot])[0, 2, 5, 9]) == pytest.approx(1)
    with pytest.raises(UserError, match="no training images"):
        phase.fit([])


def test_every_patch_has_the_vector_that_the_network_makes_of_it() -> None:
    model, groups = made(replace(OWN, strides=(32, 16))), pictures(2)
    with torch.inference_mode():
        large, small = model.vectors(groups)
        assert (large.shape, small.shape) == ((2, 5, 5, 8), (2, 11, 11, 8))
        seen = model._pictures(groups)[1:]
        for row, column in ((0, 0), (4, 1), (2, 4)):
            patch = seen[:, :, 32 * row : 32 * row + 64, 32 * column : 32 * column + 64]
            torch.testing.assert_close(large[1, row, column], model.network.embed_large(patch)[0])
        for row, column in ((0, 10), (7, 3)):
            patch = seen[:, :, 16 * row : 16 * row + 32, 16 * column : 16 * column + 32]
            torch.testing.assert_close(small[1, row, column], model.network.small(patch)[0])


def test_what_was_learnt_from_scores_nothing_and_a_foreign_place_where_it_is(fitted: SclVi) -> None:
    groups = pictures(2)
    with torch.inference_mode():
        assert float(fitted.maps(groups, SIDE, False).max()) < 1e-9  # batches of other sizes round otherwise
        changed = groups[0][:1].clone().view(1, SIDE, SIDE, 3)
        changed[:, 150:180, 10:40] = 255
        found = fitted.maps([changed.view(1, -1, 3)], SIDE, False)[0]
    row, column = divmod(int(found.argmax()), 256)
    assert (128 <= row * SIDE / 256 < 192, column * SIDE / 256 < 64) == (True, True)  # the patches that saw it
    assert float(found[:128, 128:].max()) < 1e-9
    assert fitted.scores(found[None]).tolist() == [float(found.max())]


def test_banks_hold_so_many_patches_at_most_and_of_few_images_all(fitted: SclVi) -> None:
    assert [len(bank.memory) for bank in (fitted.large, fitted.small)] == [2 * 9, 2 * 36]
    few = fit(made(replace(OWN, bank=7)), pictures(2))
    assert [len(bank.memory) for bank in (few.large, few.small)] == [7, 7]
    kept = few.small.memory[:, None] == fitted.small.memory
    assert kept.all(dim=2).any(dim=1).all()


def test_banks_of_any_length_are_loaded_and_what_does_not_fit_leaves_them(fitted: SclVi) -> None:
    model = fit(made(replace(OWN, bank=7)), pictures(1, seed=3))
    tensors = fitted.tensors()
    with pytest.raises(UserError, match=r"the file: large\.memory"):
        model.load_tensors({**tensors, "large.memory": torch.zeros(3, 9)}, "the file")
    assert [len(bank.memory) for bank in (model.large, model.small)] == [7, 7]
    model.load_tensors(tensors, "the file")
    with torch.inference_mode():
        test = pictures(1, seed=9)
        assert torch.equal(model.maps(test, SIDE, False), fitted.maps(test, SIDE, False))
    with pytest.raises(UserError, match="train the detector again"):
        made().maps(pictures(1), SIDE, False)


def test_a_batch_that_workers_share_has_the_loss_of_one() -> None:
    """Whatever share of it a worker has, and in whichever order; with other seeds it is another."""
    model, (whole,) = made(replace(OWN, svdd_weight=0.5)), pictures(3)
    alone = terms(model, [whole], (4, 5, 6))
    shares = [terms(model, [whole[[2]]], (6,)), terms(model, [whole[[1, 0]]], (5, 4))]
    assert set(alone) == {"total", "relation_large", "relation_small", "svdd_large", "svdd_small"}
    for name, value in alone.items():
        torch.testing.assert_close((shares[0][name] + 2 * shares[1][name]) / 3, value)
    named = {name: float(value.detach()) for name, value in alone.items()}
    relations, svdd = (sum(v for name, v in named.items() if name.startswith(kind)) for kind in ("relation", "svdd"))
    assert named["total"] == pytest.approx(relations + 0.5 * svdd)
    assert float(terms(model, [whole], (4, 5, 7))["total"].detach()) != named["total"]


def test_held_out_images_are_measured_by_the_same_pairs_in_each_epoch() -> None:
    model, groups = made(), pictures(2)
    (phase,) = (one for one in model.phases() if isinstance(one, Train))
    found = []
    for epoch in range(2):
        torch.manual_seed(epoch)
        found.append(float(phase.validate(phase.network, groups, None).detach()))
    assert found[0] == found[1]


@pytest.mark.parametrize("relations", ["fixed", "trained"])
def test_the_last_layer_of_relations_stays_as_it_was_drawn_or_is_trained(relations: str) -> None:
    model = made(replace(OWN, relations=relations))  # type: ignore[arg-type]
    terms(model, pictures(1), (0,))["total"].backward()
    without = {name for name, one in model.network.named_parameters() if one.grad is None}
    fixed = {f"relation_{size}.fc3.weight" for size in ("large", "small")}
    assert without == (fixed if relations == "fixed" else set())


def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """After an epoch, and after the last one, before the banks are filled."""
    own = replace(OWN, bank=20, epochs=2)
    config = LoopConfig(TrainSettings(method="scl_vi", batch_size=2, own=own), SHAPE, Noise(SHAPE.levels, images=2))
    straight = TrainingLoop(config, CPU)
    while not straight.done:
        straight.advance()
    broken = TrainingLoop(config, CPU)
    for epoch in (1, 2):
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
    assert len(right["small.memory"]) == 20
