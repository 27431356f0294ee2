"""One training step of INP-Former, the same on one worker or many, on a GPU or a CPU."""

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inpformer.methods.inp_former.losses import losses
from inpformer.methods.inp_former.settings import LossSettings
from inpformer.nn.optim import StableAdamW

GRADIENT_CLIP = 0.1


@dataclass(frozen=True)
class Step:
    """What a step did: this worker's losses, weighted so that their mean over the workers is the batch's, the gradient
    norm before clipping, and whether it was refused.
    """

    total: Tensor
    soft_mining: Tensor
    coherence: Tensor
    gradient_norm: Tensor
    refused: bool


def train_step(
    model: nn.Module,
    optimizer: StableAdamW,
    target: Tensor,
    rate: float,
    settings: LossSettings,
    autocast: bool = False,
    clip: float = GRADIENT_CLIP,
    weight: float = 1.0,
) -> Step:
    """One optimiser step on `target` [B, G, N, C], this worker's share of the batch.

    `model` is an `INPFormer` or a DistributedDataParallel of one; `autocast` runs it in bfloat16; `clip` is the
    largest gradient norm. `weight` is this share's size over that of an equal share: DistributedDataParallel takes
    the plain mean of the workers' gradients. A step whose loss or gradient is not finite is refused: the weights stay
    as they are. Gradients are averaged over the workers before that is decided, so all of them decide alike.
    """
    amp = torch.autocast(target.device.type, torch.bfloat16) if autocast else contextlib.nullcontext()
    with amp:
        output = model(target)
    loss = losses(output, settings)
    total, soft_mining, coherence = (weight * part for part in (loss.total, loss.soft_mining, loss.coherence))
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    finite = bool(torch.isfinite(norm))
    if finite:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return Step(total.detach(), soft_mining.detach(), coherence.detach(), norm, not finite)
