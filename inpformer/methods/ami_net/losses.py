"""AMI-Net's losses: how badly an image is rebuilt, how far its tokens lie from their clusters, how near these are."""

from torch import Tensor

from inpformer.methods.ami_net.masks import distances
from inpformer.methods.ami_net.network import Rebuilding
from inpformer.methods.base import TOTAL, Terms
from inpformer.methods.patched.model import patch_terms

APART_WEIGHT = 0.1


def losses(found: Rebuilding) -> Terms:
    """The total and its terms, means over images. `token` is the mean distance of a token to its centre, `centre` that
    between two centres, which is to be large: a model whose tokens and centres are all small has both small.
    """
    terms = patch_terms(found.target, found.rebuilt)
    token, centre = found.distances.amin(dim=2).mean(), between(found.centres)
    return terms | {TOTAL: terms[TOTAL] + token - APART_WEIGHT * centre, "token": token, "centre": centre}


def between(centres: Tensor) -> Tensor:
    """The mean distance between two centres of an image, [B, K, E] to a scalar."""
    count = centres.shape[1]
    return distances(centres, centres).sum() / (len(centres) * count * (count - 1))
