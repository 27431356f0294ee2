"""What is drawn for an image follows from its own number alone."""

import torch

from inpformer.nn.draws import Draws

CPU = torch.device("cpu")


def test_an_image_draws_the_same_whoever_its_batch_mates_are() -> None:
    whole, part = Draws([5, 7, 9], CPU), Draws([7, 9], CPU)
    for draw in (lambda one: one.normal(2, 3), lambda one: one.uniform(4), lambda one: one.orders(6)):
        together, few = draw(whole), draw(part)
        assert torch.equal(together[1:], few)
        assert not torch.equal(together[0], together[1])


def test_draws_go_on_and_are_spread_as_they_say() -> None:
    draws = Draws([3], CPU)
    first, second = draws.normal(1000), draws.normal(1000)
    assert not torch.equal(first, second)
    assert abs(float(first.mean())) < 0.1
    assert abs(float(first.std()) - 1) < 0.1
    assert 0 <= float((few := draws.uniform(1000)).min()) < 0.05 < 0.95 < float(few.max()) < 1
    assert draws.orders(50).sort(dim=1).values.tolist() == [list(range(50))]
