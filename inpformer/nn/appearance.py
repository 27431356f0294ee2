"""What an image looks like as a whole, so that images can be told apart by it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def appearance(groups: Sequence[Tensor]) -> Tensor:
    """What an image looks like as a whole: the mean of each level over its places, in direction alone, as levels differ
    in scale: of levels [B, N, C] each, [B, ΣC], all of one length.
    """
    return torch.cat([F.normalize(group.mean(dim=1), dim=1) for group in groups], dim=1)
