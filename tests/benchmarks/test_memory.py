"""That what is counted without a GPU is what tensors take."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.memory.measure import Live, steps
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.methods import METHODS
from inpformer.methods.dadf.settings import DadfSettings, FlowSettings
from inpformer.methods.rb_ae.settings import RbAeSettings
from inpformer.training.settings import TrainSettings

PYRAMID = EncoderShape((Level(4, 3), Level(2, 5)), None)


def test_what_is_alive_is_counted_and_what_is_gone_is_not() -> None:
    with FakeTensorMode(), Live() as live:
        weight = torch.zeros(10, 20, requires_grad=True)
        assert live.now == 800
        rows = weight.T[:5]  # of the same memory
        product = torch.zeros(30, 10) @ weight  # keeps what was multiplied
        assert live.now == live.most == 800 + 1200 + 2400
        loss = (product * product).sum()  # keeps the product, not its square
        assert (live.now, live.most) == (4400 + 4, 4400 + 2400 + 4)
        loss.backward()
        del product, loss
        assert live.now == 800 + 800  # with the gradient
        assert rows.shape == (5, 10)


def test_a_training_has_its_weights_two_slots_each_and_what_a_step_takes() -> None:
    own = DadfSettings(width=8, depth=1, heads=2, flow=FlowSettings(depth=2))
    train = TrainSettings(method="dadf", own=own)
    model = train.kind.make(own, PYRAMID)
    counts = [sum(one.numel() for one in part.parameters()) for part in model.children()]
    found = steps(train, PYRAMID, images=2)
    assert [row[0] for row in found] == [count / 1e6 for count in counts]
    assert [row[2] * 2**30 for row in found] == [8 * count for count in counts]
    for _, weights, slots, most in found:
        assert weights * 2**30 >= 4 * sum(counts)
        assert most > weights + slots


def test_a_training_with_pictures_with_defects_is_given_some() -> None:
    own = RbAeSettings(width=8)
    model = METHODS["rb_ae"].make(own, PYRAMID)
    found = steps(TrainSettings(method="rb_ae", own=own), PYRAMID, images=2)
    counts = [sum(one.numel() for one in part.parameters()) for part in (model.network, model.head)]
    assert [row[0] for row in found] == [count / 1e6 for count in counts]
    assert all(most > weights + slots for _, weights, slots, most in found)
