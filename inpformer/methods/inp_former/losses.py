"""INP coherence loss and soft mining loss (INP-Former, sections 3.2 and 3.5).

Both are computed in 32 bit or more whatever the model runs in: the mining weight's cube overflows in half precision.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from inpformer.methods.inp_former.network import Reconstruction
from inpformer.methods.inp_former.settings import LossSettings
from inpformer.nn.precision import precise

EPS = 1e-8


@dataclass(frozen=True)
class Losses:
    """Scalars: `total` = `soft_mining` + λ · `coherence`."""

    total: Tensor
    soft_mining: Tensor
    coherence: Tensor


def losses(output: Reconstruction, settings: LossSettings) -> Losses:
    """The training objective of one batch, of this worker's images."""
    coherence = coherence_loss(output.fused, output.prototypes)
    mining = soft_mining_loss(output.target, output.decoded, settings.mining_power)
    return Losses(mining + settings.coherence_weight * coherence, mining, coherence)


def nearest_prototype_distance(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine distance of each token to its nearest prototype: [B, N, C] and [B, M, C] give [B, N]."""
    return 1 - prototype_similarity(tokens, prototypes).amax(dim=-1)


def prototype_similarity(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """Cosines of all tokens with all prototypes: [B, N, C] and [B, M, C] give [B, N, M]."""
    return F.normalize(precise(tokens), dim=-1) @ F.normalize(precise(prototypes), dim=-1).transpose(1, 2)


def coherence_loss(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """Mean distance of the tokens to their nearest prototype: pulls prototypes onto what is normal."""
    return nearest_prototype_distance(tokens, prototypes).mean()


def soft_mining_loss(target: Tensor, decoded: Tensor, power: float) -> Tensor:
    """One cosine over all of an image's C·N numbers; hard tokens get more of the gradient, easy ones less.

    `target` and `decoded` are [B, G, N, C]. The gradient that reaches a decoded token is multiplied by
    (p / mean p)^power, p its own cosine distance, the mean over the tokens of the whole global batch.
    """
    target, decoded = precise(target.detach()), precise(decoded)
    distance = (1 - F.cosine_similarity(target, decoded.detach(), dim=-1)).clamp(min=0)
    return reconstruction_loss(target, mined(decoded, distance, power))


def mined(decoded: Tensor, errors: Tensor, power: float) -> Tensor:
    """Equal in value to `decoded` [B, G, N, C]; the gradient that reaches a token of it is multiplied by
    (e / mean e)^power, e its own of `errors` [B, G, N], the mean over the tokens of the whole global batch.
    """
    weight = (errors / (_global_mean(errors)[None, :, None] + EPS)).pow(power)
    held = decoded.detach()
    return held + weight[..., None] * (decoded - held)


def reconstruction_loss(target: Tensor, decoded: Tensor) -> Tensor:
    """The soft mining loss's value without its weighting of gradients: what validation reports."""
    return (1 - F.cosine_similarity(precise(target).flatten(2), precise(decoded).flatten(2), dim=-1)).mean()


def _global_mean(distance: Tensor) -> Tensor:
    """The mean over images and tokens of a batch that the workers of a run share, however unevenly: each gives its
    [B, G, N], all get [G].
    """
    # new_full, as new_tensor would copy a number to the GPU and wait for that.
    total, count = distance.sum(dim=(0, 2)), distance.new_full((1,), distance.shape[0] * distance.shape[2])
    if dist.is_available() and dist.is_initialized():
        both = torch.cat([total, count])
        dist.all_reduce(both)
        total, count = both[:-1], both[-1:]
    return total / count


def distance_maps(target: Tensor, decoded: Tensor) -> Tensor:
    """Cosine distance token by token: two [B, G, N, C] give [B, G, N]."""
    return 1 - torch.cosine_similarity(precise(target), precise(decoded), dim=-1)
