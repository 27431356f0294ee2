"""Soft coherence and two branches of soft mining (INP-Former++, arXiv 2506.03660).

All are computed in 32 bit or more whatever the model runs in, as INP-Former's are.
"""

import torch.nn.functional as F
from torch import Tensor

from inpformer.methods.inp_former.losses import mined, prototype_similarity, soft_mining_loss
from inpformer.nn.precision import precise


def soft_coherence_loss(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """How far an image is from what its prototypes can say of it: the mean over images of 1 - cos(x, x̂).

    `tokens` x is [B, N, C], `prototypes` [B, M, C]. Each token of x̂ is the mean of the prototypes, weighted by the
    softmax of its cosines with them, without a temperature; the cosine is one over all N·C numbers of an image. Under
    the loss that it replaces all tokens may sit on one prototype at no cost; here each prototype counts in each token.
    """
    mixed = soft_prototypes(tokens, prototypes)
    return (1 - F.cosine_similarity(precise(tokens).flatten(1), mixed.flatten(1), dim=-1)).mean()


def soft_prototypes(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """x̂ of `soft_coherence_loss`: [B, N, C]."""
    return prototype_similarity(tokens, prototypes).softmax(dim=-1) @ precise(prototypes)


def two_branch_mining_loss(
    target: Tensor,
    decoded: Tensor,
    unit: Tensor,
    power: float,
    cosine_weight: float,
    squared_weight: float,
    end: int | None = None,
) -> Tensor:
    """The weighted sum of two losses of one reconstruction, the cosine's (INP-Former's soft mining) and the squared
    error's; in each branch hard tokens get more of the gradient by its own errors.

    `target` and `decoded` are [B, G, N, C], `unit` that of `squared_errors`, which are of the channels up to `end`
    (None: all). A branch of weight 0 is left out.
    """
    total = precise(decoded).new_zeros(())
    if cosine_weight:
        total = total + cosine_weight * soft_mining_loss(target, decoded, power)
    if squared_weight:
        squared = squared_mining_loss(target[..., :end], decoded[..., :end], unit, power)
        total = total + squared_weight * squared
    return total


def squared_mining_loss(target: Tensor, decoded: Tensor, unit: Tensor, power: float) -> Tensor:
    """The mean squared error over images, groups and tokens; the gradient that reaches a decoded token is multiplied by
    (e / mean e)^power, e its own squared error.
    """
    target, decoded = precise(target.detach()), precise(decoded)
    errors = squared_errors(target, decoded.detach(), unit)
    return squared_errors(target, mined(decoded, errors, power), unit).mean()


def squared_errors(target: Tensor, decoded: Tensor, unit: Tensor) -> Tensor:
    """Mean over channels of ((target - decoded) / unit)², token by token: two [B, G, N, C] give [B, G, N]. `unit` [1]
    is the size of a channel.
    """
    return ((precise(target) - precise(decoded)) / unit).square().mean(dim=-1)
