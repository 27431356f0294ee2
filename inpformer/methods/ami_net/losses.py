"""AMI-Net's losses: how badly an image is rebuilt, how far its tokens lie from their clusters, how near these are."""

from torch import Tensor

from inpformer.methods.ami_net.masks import distances
from inpformer.methods.ami_net.network import Rebuilding
from inpformer.methods.base import TOTAL, Terms
from inpformer.nn.patches import COSINE_WEIGHT, patch_errors

APART_WEIGHT = 0.1


def losses(found: Rebuilding) -> Terms:
    """The total and its terms, means over images. `token` is the mean distance of a token to its centre, `centre` that
    between two centres, which is to be large: a model whose tokens and centres are all small has both small.
    """
    cosine, squared = patch_errors(found.target, found.rebuilt)
    token, centre = found.distances.amin(dim=2).mean(), between(found.centres)
    total = COSINE_WEIGHT * cosine + squared + token - APART_WEIGHT * centre
    return {TOTAL: total, "cosine": cosine, "squared": squared, "token": token, "centre": centre}


def between(centres: Tensor) -> Tensor:
    """The mean distance between two centres of an image, [B, K, E] to a scalar."""
    count = centres.shape[1]
    return distances(centres, centres).sum() / (len(centres) * count * (count - 1))
