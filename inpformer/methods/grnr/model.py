"""GRNR as a method: which levels it reads, and its maps. There is nothing to train."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from inpformer.config import require
from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape
from inpformer.encoders.tokens import token_wants
from inpformer.images.frame import MAP_SIZE
from inpformer.methods.base import Groups, Model, Phase
from inpformer.methods.grnr.residual import WINDOW, pooled, scores, side_of
from inpformer.methods.grnr.settings import GrnrSettings
from inpformer.nn.maps import smoothed

SIGMA = 3.0  # pixels of what the encoder sees
# Of a grid's side, on each side: 3 of 40 cells and 2 of 20, as its authors have it.
BORDER = 0.075


class Grnr(Model):
    """Without tensors: an image is judged by itself."""

    def __init__(self, settings: GrnrSettings, shape: EncoderShape) -> None:
        super().__init__()
        self.settings = settings
        coarsest = min(self.wants(settings, shape).shapes(shape.levels), key=lambda level: level.side)
        right = f"at least {WINDOW}: use a larger input or finer levels"
        require(coarsest.side >= WINDOW, "the side of its coarser level", coarsest.side, right)
        right = f"at most {coarsest.tokens}, the positions of its coarser level"
        require(settings.neighbours <= coarsest.tokens, "neighbours", settings.neighbours, right)

    @staticmethod
    def wants(settings: GrnrSettings, shape: EncoderShape) -> Wants:
        """See `Model`. Two levels of a pyramid, each on its own grid: of more than two those in the middle, as its
        authors take the second and third of four; of three the last two. Of a ViT the two halves of its blocks.
        """
        if shape.heads is not None:
            return token_wants(shape, None)
        numbers = shape.of_network
        right = "two levels at least, e.g. [8, 16] in features.encoder.levels, as their maps are multiplied"
        require(len(numbers) >= 2, "the number of the network's levels", len(numbers), right)
        first = (len(numbers) - 1) // 2
        return Wants(tuple((number,) for number in numbers[first : first + 2]))

    def phases(self) -> tuple[Phase, ...]:
        """None."""
        return ()

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """The product of the levels' maps."""
        product = math.prod((self._level(group, image_size) for group in groups), start=torch.ones(()))
        return F.interpolate(product[:, None], (MAP_SIZE, MAP_SIZE), mode="bilinear", align_corners=False)[:, 0]

    def scores(self, maps: Tensor) -> Tensor:
        """The largest value of each map: a defect of one place is small beside a texture."""
        return maps.amax(dim=(1, 2))

    def _level(self, group: Tensor, image_size: int) -> Tensor:
        """The map [B, S, S] of a level [B, N, C], image by image: what one takes is large."""
        own = self.settings
        found = [scores(pooled(one.float()), own.neighbours, own.weight) for one in group]
        side = side_of(group[0])
        return to_pixels(even_edges(torch.stack(found).unflatten(1, (side, side))), image_size)


def even_edges(grids: Tensor) -> Tensor:
    """Grids [B, n, n] whose border cells are no higher than others: an encoder pads pictures with 0, so its features
    are strange there. Each ring of the border is scaled to the median of what lies within, unless it is below.
    """
    side = grids.shape[-1]
    at = torch.arange(side, device=grids.device)
    inwards = at.minimum(side - 1 - at)
    ring = inwards[:, None].minimum(inwards)
    border = math.ceil(BORDER * side)
    usual = grids[:, ring >= border].median(dim=1).values
    scale = torch.ones_like(grids)
    for number in range(border):
        own = grids[:, ring == number].median(dim=1).values
        scale[:, ring == number] = torch.where(own > usual, usual / own, 1)[:, None]
    return grids * scale


def to_pixels(grids: Tensor, image_size: int) -> Tensor:
    """Grids [B, n, n] as smooth maps [B, S, S]."""
    return smoothed(upsampled(grids, image_size), SIGMA)


def upsampled(grids: Tensor, image_size: int) -> Tensor:
    """[B, n, n] to [B, S, S]."""
    return F.interpolate(grids[:, None], (image_size, image_size), mode="bilinear", align_corners=False)[:, 0]
