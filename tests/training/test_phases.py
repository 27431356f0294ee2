"""A method of several phases goes through the loop, and may be interrupted anywhere: it ends as if it had not been."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from inpformer.config import build
from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.methods.nearest.settings import NearestSettings
from inpformer.nn.optim import learning_rate
from inpformer.training.loop import CHECKPOINT_PROGRESS, LoopConfig, TrainingLoop, read_model
from inpformer.training.settings import TrainSettings
from tests.training.made_up import PYRAMID, Noise, Toy, ToySettings, toy_known

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    with toy_known():
        yield


# Fewer than good ones: an epoch goes round them more than once.
ANOMALIES = Noise(images=11, masked=True)


def configured(method: str = "toy", own: object = None, **changed: object) -> LoopConfig:
    settings = TrainSettings(method=method, batch_size=8, own=own or ToySettings())
    return LoopConfig(settings, PYRAMID, Noise(**changed), ANOMALIES)  # type: ignore[arg-type]


def finished(config: LoopConfig) -> TrainingLoop:
    loop = TrainingLoop(config, CPU)
    while not loop.done:
        loop.advance()
    return loop


def same(one: TrainingLoop, other: TrainingLoop) -> bool:
    left, right = one.model.tensors(), other.model.tensors()
    return one.progress == other.progress and all(torch.equal(left[name], right[name]) for name in left | right)


def test_each_phase_trains_its_own_part_with_its_own_optimiser() -> None:
    loop = TrainingLoop(configured(), CPU)
    assert (loop.epochs, loop.done, loop.optimizer) == (4, False, None)
    seen, changed = [], []
    while not loop.done:
        before = {name: tensor.clone() for name, tensor in loop.model.tensors().items()}
        row = loop.advance()
        seen.append((loop.progress.phase, loop.progress.epoch, type(loop.optimizer).__name__, row is not None))
        after = loop.model.tensors()
        changed.append({n.partition(".")[0] for n in after if not torch.equal(before[n], after[n])})
    assert seen == [
        (1, 0, "Adam", False),
        (1, 1, "Adam", True),
        (2, 2, "SGD", True),
        (2, 3, "SGD", True),
        (3, 4, "NoneType", True),
        (4, 4, "NoneType", False),
    ]
    assert changed == [{"mean"}, {"first"}, {"first"}, {"second"}, {"second"}, {"bank"}]
    history = loop.progress.history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert ["rebuilt" in row for row in history] == [False, False, True, True]
    # Each phase has a schedule of its own: the second begins where the first began.
    assert [row["lr"] for row in history] == pytest.approx([1e-2 * (1 - n / 8) for n in (3, 7, 3, 7)])


@pytest.mark.parametrize("anomalies", [False, True])
@pytest.mark.parametrize("stop", range(7))
def test_interrupted_anywhere_it_ends_with_the_same_tensors_and_history(
    tmp_path: Path, stop: int, anomalies: bool
) -> None:
    config = configured(own=ToySettings(anomalies=anomalies))
    first, second = TrainingLoop(config, CPU), TrainingLoop(config, CPU)
    for _ in range(stop):
        first.advance()
    first.save(tmp_path)
    torch.rand(5)  # whatever else the new process drew
    second.load(tmp_path)
    assert same(first, second)
    while not second.done:
        second.advance()
    whole = finished(config)
    assert same(second, whole)
    model, progress = read_model(config, tmp_path, "the checkpoint")
    assert (progress, progress.seconds) == (first.progress, first.progress.seconds)
    assert (progress.seconds > 0) == (stop > 0)
    assert second.progress.seconds >= progress.seconds  # what it took before the interruption counts
    assert all(torch.equal(a, b) for a, b in zip(model.tensors().values(), first.model.tensors().values(), strict=True))


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_a_memory_that_is_not_filled_yet_is_a_checkpoint_too(tmp_path: Path, stop: int) -> None:
    config = configured("nearest", NearestSettings(1, 0.1, grid=3, channels=6))
    first, second = TrainingLoop(config, CPU), TrainingLoop(config, CPU)
    assert (first.epochs, len(first.phases)) == (0, 2)
    for _ in range(stop):
        first.advance()
    first.save(tmp_path)
    second.load(tmp_path)
    second.run_to(0)
    assert second.done
    assert same(second, finished(config))
    assert len(second.model.tensors()["memory"]) == round(0.1 * 35 * 9)


def test_a_fit_sees_every_training_image_once_and_in_order() -> None:
    loop = TrainingLoop(configured(images=19), CPU)
    seen: list[Tensor] = []
    loop.model._fit_mean = lambda batches: seen.extend(groups[0] for groups in batches)  # type: ignore[operator]
    loop.phases = loop.model.phases()
    loop.advance()
    assert [len(batch) for batch in seen] == [8, 8, 3]
    expected = loop.wants.of(Noise().read("train", range(19)))[0]
    torch.testing.assert_close(torch.cat(seen), expected)
    assert seen[0].dtype == torch.float32


class Recorded(Noise):
    """Notes which pictures are read."""

    seen: ClassVar[list[int]] = []

    def read(self, split: str, numbers: Sequence[int]) -> list[Tensor]:
        self.seen.extend(numbers)
        return super().read(split, numbers)


def test_pictures_with_defects_come_in_batches_as_large_all_of_them_and_shuffled() -> None:
    config = configured(own=ToySettings(anomalies=True))
    loop = TrainingLoop(replace(config, anomalies=Recorded(images=11, masked=True)), CPU)
    loop.run_to(2)
    assert Recorded.seen == []  # the phases before do without
    loop.advance()
    taught, judged = Recorded.seen[:32], Recorded.seen[32:]  # 4 steps of 8, and one for each of the 5 held-out images
    assert judged == list(range(5))
    assert sorted(taught[:11]) == sorted(taught[11:22]) == list(range(11))
    assert taught[:11] != taught[11:22] != list(range(11))


def test_features_stored_as_the_method_wants_them_train_the_same_model() -> None:
    kept = Toy.wants(ToySettings(), PYRAMID)
    whole, part = finished(configured()), finished(configured(kept=kept))
    for name, tensor in whole.model.tensors().items():
        torch.testing.assert_close(part.model.tensors()[name], tensor, rtol=0.02, atol=0.02)
    assert part.model.tensors()["bank"].dtype == torch.float32


@pytest.mark.parametrize(("fewest", "epochs"), [(0, 2), (8, 2), (9, 3), (17, 5)])
def test_a_floor_in_steps_makes_more_epochs_and_the_rate_falls_over_all_of_them(fewest: int, epochs: int) -> None:
    own = InpFormerSettings(grid=3, channels=16, epochs=2, warmup=0, fewest_steps=fewest)
    loop = TrainingLoop(LoopConfig(TrainSettings(batch_size=8, own=own), PYRAMID, Noise(images=35)), CPU)  # type: ignore[arg-type]
    assert loop.epochs == epochs  # of 4 steps each
    loop.run_to(epochs)
    assert loop.done
    rates = [row["lr"] for row in loop.progress.history]
    assert len(rates) == epochs
    assert rates[-1] == pytest.approx(learning_rate(4 * epochs - 1, 4 * epochs, warmup=0))


def test_run_to_stops_between_epochs_and_at_the_last_ends_everything() -> None:
    loop = TrainingLoop(configured(), CPU)
    for epoch, phase, done in ((1, 1, False), (3, 2, False), (3, 2, False), (4, 4, True), (9, 4, True)):
        loop.run_to(epoch)
        assert (loop.progress.phase, loop.progress.epoch, loop.done) == (phase, min(epoch, 4), done)


def test_the_optimisers_numbers_and_tensors_survive_the_file(tmp_path: Path) -> None:
    loop, again = (TrainingLoop(configured(), CPU) for _ in range(2))
    loop.run_to(1)
    loop.save(tmp_path)
    again.load(tmp_path)
    for parameter, other in zip(loop.model.first.parameters(), again.model.first.parameters(), strict=True):  # type: ignore[union-attr]
        state, loaded = loop.optimizer.state[parameter], again.optimizer.state[other]  # type: ignore[union-attr]
        assert state.keys() == loaded.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(state[slot], loaded[slot]) for slot in state)
    assert json.loads((tmp_path / CHECKPOINT_PROGRESS).read_text())["steps"] == 4


@pytest.mark.gpu
def test_on_a_gpu_an_interruption_changes_nothing_either(tmp_path: Path) -> None:
    gpu = torch.device("cuda")
    whole, first, second = (TrainingLoop(configured(), gpu) for _ in range(3))
    whole.run_to(4)
    first.run_to(1)
    first.save(tmp_path)
    second.load(tmp_path)
    second.run_to(4)
    for name, tensor in whole.model.tensors().items():
        torch.testing.assert_close(second.model.tensors()[name], tensor, rtol=1e-3, atol=1e-4)


def test_wants_of_two_methods_may_be_one() -> None:
    shape = EncoderShape(PYRAMID.levels, None)
    tables = ({"method": "nearest", "nearest": {"grid": 3}}, {"inp_former": {"grid": 3}}, {"method": "toy"})
    built = [build(TrainSettings, table, "train") for table in tables]
    wants = [settings.kind.wants(settings.own, shape) for settings in built]
    assert wants[0] == wants[1] == Wants(((0, 1),), "channels", (3,))
    assert wants[0] != wants[2]
    assert isinstance(built[1].own, InpFormerSettings)
