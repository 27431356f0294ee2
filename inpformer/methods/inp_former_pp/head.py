"""The residual head: from where and how a reconstruction is wrong to where the defect is (INP-Former++)."""

import torch.nn.functional as F
from torch import Tensor, nn

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


class ResidualHead(nn.Module):
    """Two transposed convolutions, each of which doubles the side, and a convolution: a map of four times the side.

    The paper says that much; kernels (4, then 3) and ReLU are ours.
    """

    def __init__(self, channels: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        first, second = hidden
        self.up1 = nn.ConvTranspose2d(channels, first, 4, stride=2, padding=1)
        self.up2 = nn.ConvTranspose2d(first, second, 4, stride=2, padding=1)
        self.out = nn.Conv2d(second, 1, 3, padding=1)

    def forward(self, residuals: Tensor) -> Tensor:
        """[B, C, h, w] to logits [B, 4h, 4w]."""
        logits: Tensor = self.out(F.relu(self.up2(F.relu(self.up1(residuals)))))
        return logits[:, 0]
