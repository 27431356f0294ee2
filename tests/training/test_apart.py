"""Single-class training without Ray: a category that was killed goes on from its last checkpoint."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from inpformer.training.loop import CHECKPOINT_PROGRESS, LoopConfig, Row, TrainingLoop
from inpformer.training.settings import TrainSettings
from pipelines.training.checkpoints import FINISHED, NAME, Checkpoints, open_checkpoints
from pipelines.training.job import read_checkpoint
from pipelines.training.worker import train_category
from tests.training.made_up import PYRAMID, Noise, ToySettings, toy_known

ROOT = Path(__file__).resolve().parents[2]


def config_of(every: int) -> LoopConfig:
    """Of the toy: 5 + 5 epochs between two fits."""
    settings = TrainSettings(method="toy", batch_size=8, checkpoint_every=every, own=ToySettings(epochs=5))
    return LoopConfig(settings, PYRAMID, Noise())  # type: ignore[arg-type]


def told(text: str) -> list[str]:
    """The epochs and phases that were computed, by the lines that tell so."""
    return [line.split("  ")[0].removeprefix("nut: ") for line in text.splitlines() if line.startswith("nut: ")]


Trained = tuple[dict[str, torch.Tensor], list[Row]]


def trained(checkpoints: Checkpoints) -> Trained:
    """The tensors and the history that a finished training left."""
    model, history = read_checkpoint(checkpoints, FINISHED, config_of(3))
    return model.tensors(), history


def same(one: Trained, other: Trained) -> bool:
    return one[1] == other[1] and all(torch.equal(one[0][name], other[0][name]) for name in one[0] | other[0])


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    with toy_known():
        yield


@pytest.fixture
def undisturbed(tmp_path: Path) -> Trained:
    checkpoints = open_checkpoints(str(tmp_path / "undisturbed"), "key").within("nut")
    train_category(config_of(3), "nut", checkpoints)
    return trained(checkpoints)


@pytest.mark.parametrize(("stop", "first"), [(2, 1), (4, 4), (5, 6), (6, 7), (9, 10), (10, 11)])
def test_a_category_stopped_in_the_middle_goes_on_from_there(
    undisturbed: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str], stop: int, first: int
) -> None:
    """Checkpoints lie after epochs 3, 5 (a phase ends), 6, 9 and 10; `first` is the epoch that comes next."""
    config, checkpoints = config_of(3), open_checkpoints(str(tmp_path / "runs"), "key").within("nut")

    class Stopped(TrainingLoop):
        def advance(self) -> Row | None:
            if self.progress.epoch == stop:
                raise KeyboardInterrupt
            return super().advance()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.training.worker.TrainingLoop", Stopped)
        with pytest.raises(KeyboardInterrupt):
            train_category(config, "nut", checkpoints)
    capsys.readouterr()
    train_category(config, "nut", checkpoints)
    epochs = [f"epoch {n}/10" for n in range(first, 11)]
    assert told(capsys.readouterr().out) == [*["phase 1 of 4 done"][: first == 1], *epochs, "phase 4 of 4 done"]
    assert same(trained(checkpoints), undisturbed)
    # What is finished is not done again, and nothing else is left of it.
    assert [path.name for path in Path(checkpoints.path("")).iterdir()] == [FINISHED]
    before = (Path(checkpoints.path(FINISHED)) / CHECKPOINT_PROGRESS).stat().st_mtime_ns
    train_category(config, "nut", checkpoints)
    assert told(capsys.readouterr().out) == []
    assert (Path(checkpoints.path(FINISHED)) / CHECKPOINT_PROGRESS).stat().st_mtime_ns == before


def test_killed_outright_it_goes_on_too(
    undisturbed: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = f"""
    import os, signal
    from pipelines.training import worker
    from pipelines.training.checkpoints import open_checkpoints
    from tests.training.made_up import toy_known
    from tests.training.test_apart import config_of
    line = worker._line
    def dying(loop, row):
        if loop.progress.epoch == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return line(loop, row)
    worker._line = dying
    with toy_known():
        worker.train_category(config_of(3), "nut", open_checkpoints({str(tmp_path / "runs")!r}, "key").within("nut"))
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert process.returncode == -signal.SIGKILL
    checkpoints = open_checkpoints(str(tmp_path / "runs"), "key").within("nut")
    assert checkpoints.whole(NAME.format(2, 6))
    assert not checkpoints.whole(FINISHED)
    capsys.readouterr()
    train_category(config_of(3), "nut", checkpoints)
    assert told(capsys.readouterr().out)[0] == "epoch 7/10"
    assert same(trained(checkpoints), undisturbed)
