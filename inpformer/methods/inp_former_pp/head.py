"""What the residual head sees: where and how a reconstruction is wrong (INP-Former++)."""

from torch import Tensor

from inpformer.methods.inp_former.losses import distance_maps
from inpformer.methods.inp_former.network import Reconstruction
from inpformer.nn.precision import precise


def residual(output: Reconstruction, unit: Tensor) -> Tensor:
    """(1 - cos(f_E, f_D)) ⊙ |f_E - f_D| / unit, mean over the groups: [B, C, h, w] of square grids.

    Without a gradient: what the head learns must not change the reconstruction.
    """
    target, decoded = precise(output.target.detach()), precise(output.decoded.detach())
    difference = (target - decoded).abs() / unit
    tokens = (distance_maps(target, decoded)[..., None] * difference).mean(dim=1)
    side = round(tokens.shape[1] ** 0.5)
    grid: Tensor = tokens.transpose(1, 2).unflatten(2, (side, side))
    return grid
