"""One training step, the same on one worker or many, on a GPU or a CPU, whatever the method."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from inpformer.methods.base import TOTAL, Terms


@dataclass(frozen=True)
class Step:
    """What a step did: this worker's losses by name, weighted so that their mean over the workers is the batch's, the
    gradient norm before clipping, and whether it was refused.
    """

    terms: Terms
    gradient_norm: float
    refused: bool


def train_step(
    network: nn.Module, optimizer: Optimizer, loss: Callable[[], Terms], rate: float, clip: float, weight: float = 1.0
) -> Step:
    """One optimiser step on this worker's share of the batch, whose losses `loss` computes.

    `network` is what is trained, or a DistributedDataParallel of it; a gradient longer than `clip` is shortened to it.
    `weight` is this share's size over that of an equal share: DistributedDataParallel takes the plain mean of the
    workers' gradients. A step whose loss or gradient is not finite is refused: the weights stay as they are. Gradients
    are averaged over the workers before that is decided, so all of them decide alike.

    The norm is the one number that is read back in a step, and the host waits for the device there. To refuse a step
    without it, the optimiser of every method would have to undo it on the device.
    """
    terms = {name: weight * value for name, value in loss().items()}
    optimizer.zero_grad(set_to_none=True)
    terms[TOTAL].backward()
    norm = float(nn.utils.clip_grad_norm_(network.parameters(), clip))
    refused = not math.isfinite(norm)
    if not refused:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return Step({name: value.detach() for name, value in terms.items()}, norm, refused)
