"""What holds of a training phase of any method: several workers, and interruptions, change nothing."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from inpformer.methods.base import Anomalies, Groups, Train
from inpformer.training.loop import LoopConfig, TrainingLoop, share

CPU = torch.device("cpu")


def assert_uneven_shares_compute_the_step_of_one(phase: Train, groups: Groups, bad: Anomalies | None = None) -> None:
    """Three workers' share of a batch, whose mean DistributedDataParallel takes."""
    images = len(groups[0])
    mean: dict[str, float] = {}
    for mine in [share(images, rank, 3) for rank in range(3)]:
        own_bad = bad and Anomalies([group[mine] for group in bad.groups], bad.masks[mine])
        terms = phase.loss(phase.network, [group[mine] for group in groups], own_bad, ())
        weight = (mine.stop - mine.start) / images
        (weight * terms["total"]).backward()
        mean = {name: mean.get(name, 0.0) + weight * float(one.detach()) for name, one in terms.items()}
    shared = {name: one.grad.clone() for name, one in phase.network.named_parameters() if one.grad is not None}
    phase.network.zero_grad()
    alone = phase.loss(phase.network, groups, bad, ())
    alone["total"].backward()
    assert mean == pytest.approx({name: float(one.detach()) for name, one in alone.items()}, rel=1e-5)
    for name, one in phase.network.named_parameters():
        torch.testing.assert_close(shared[name], one.grad, rtol=1e-4, atol=1e-4 * float(shared[name].abs().max()))


def assert_stops_change_nothing(config: LoopConfig, stops: Sequence[int], folder: Path) -> TrainingLoop:
    """A training that is stopped after those epochs ends as one in one piece does, which is returned."""
    straight = TrainingLoop(config, CPU)
    straight.run_to(straight.epochs)
    broken = TrainingLoop(config, CPU)
    for epoch in stops:
        broken.run_to(epoch)
        broken.save(folder)
        torch.manual_seed(7)
        broken = TrainingLoop(config, CPU)
        broken.load(folder)
    broken.run_to(straight.epochs)
    assert broken.progress == straight.progress
    left, right = broken.model.tensors(), straight.model.tensors()
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []
    return straight
