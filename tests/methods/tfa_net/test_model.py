"""TFA-Net as a method: which references it keeps, and which one an image gets."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.methods import METHODS
from inpformer.methods.base import Fit
from inpformer.methods.tfa_net.model import TfaNet
from inpformer.methods.tfa_net.settings import TfaNetSettings
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings
from tests.training.made_up import Noise

PYRAMID = EncoderShape((Level(8, 6), Level(4, 10)), None)
SMALL = {"width": 16, "depth": 1, "heads": 2, "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2}
OWN = TfaNetSettings(patch=2, **SMALL, references=3, epochs=2)


def made(references: int = 3) -> TfaNet:
    torch.manual_seed(0)
    model = METHODS["tfa_net"].make(TfaNetSettings(patch=2, **SMALL, references=references), PYRAMID).eval()
    assert isinstance(model, TfaNet)
    return model


def images(per_kind: int, seed: int = 0) -> list[Tensor]:
    """Of three kinds, one after the other; the k-th of each is the farther from its kind the larger k is."""
    kinds = torch.randn(3, 16, generator=torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(seed)
    made_ = []
    for level, part in zip(PYRAMID.levels, kinds.split([6, 10], dim=1), strict=True):
        away = torch.randn(3, per_kind, 1, level.channels, generator=generator)
        own = part[:, None, None] + 0.05 * torch.arange(per_kind)[None, :, None, None] * away
        noise = torch.randn(3, per_kind, level.tokens, level.channels, generator=generator)
        made_.append((own + 0.01 * noise).flatten(0, 1))
    return made_


def fit(model: TfaNet, *batches: list[Tensor]) -> None:
    with torch.no_grad():
        for phase in model.phases():
            if isinstance(phase, Fit):
                phase.fit(batches)


def test_each_kind_of_image_gets_a_typical_one_of_its_own_as_reference() -> None:
    """Also where the kinds come in batches apart, and whichever comes first."""
    groups = images(5)
    model = made()
    fit(model, [one[:7] for one in groups], [one[7:] for one in groups])
    kept = model.get_buffer("level_0").float()
    numbers = [int((groups[0].half().float() - one).abs().amax(dim=(1, 2)).argmin()) for one in kept]
    assert sorted(number // 5 for number in numbers) == [0, 1, 2]
    assert max(number % 5 for number in numbers) <= 2  # not the odd ones out
    for number, reference in zip(numbers, kept, strict=True):
        assert torch.equal(groups[0][number].half().float(), reference)
        assert torch.equal(groups[1][number].half(), model.get_buffer("level_1")[numbers.index(number)])
    asked = images(2, seed=1)
    expected = model.grid(
        [
            one[[numbers.index(n) for kind in range(3) for n in numbers if n // 5 == kind]]
            for one in (kept, model.get_buffer("level_1").float())
        ]
    )
    torch.testing.assert_close(model.reference(asked), expected.repeat_interleave(2, dim=0))


def test_one_reference_is_everybodys_and_more_than_there_are_images_are_refused() -> None:
    model, groups = made(1), images(2)
    fit(model, groups)
    references = model.reference(groups)
    assert torch.equal(references, references[:1].expand(6, -1, -1, -1))
    with pytest.raises(UserError, match="references is 7: it must be at most 6, the number of training images"):
        fit(made(7), groups)


def test_an_image_changes_what_its_reference_becomes_but_not_another_images() -> None:
    model, groups = made(), images(2)
    fit(model, groups)
    grid, reference = model.grid(groups), model.reference(groups)
    other = grid.clone()
    other[0, :, 2:4, 2:4] += 1
    with torch.no_grad():
        plain, changed = (model.network(one, reference)[1] for one in (grid, other))
        moved = model.network(grid, reference.roll(1, 0))[1]
    assert torch.equal(plain[1:], changed[1:])
    assert not torch.allclose(plain[0], changed[0])
    assert not torch.allclose(plain[0], moved[0])


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_an_interrupted_training_ends_as_if_it_had_not_been(stop: int, tmp_path: Path) -> None:
    """After the references are chosen, after they are kept, and after an epoch."""
    config = LoopConfig(TrainSettings(method="tfa_net", batch_size=16, own=OWN), PYRAMID, Noise(PYRAMID.levels))
    straight, broken, again = (TrainingLoop(config, torch.device("cpu")) for _ in range(3))
    straight.run_to(2)
    for _ in range(stop):
        broken.advance()
    broken.save(tmp_path)
    again.load(tmp_path)
    again.run_to(2)
    assert again.progress == straight.progress
    left, right = again.model.tensors(), straight.model.tensors()
    assert [name for name in left | right if not torch.equal(left[name], right[name])] == []
    assert float(right["level_0"].abs().min(dim=2).values.max()) > 0  # they were kept
