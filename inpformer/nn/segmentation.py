"""A head that makes a map of where defects are, and what it learns by.

Shapes: B images, masks of 256 × 256 pixels.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from inpformer.images.frame import MAP_SIZE
from inpformer.nn.precision import precise

# Added to both sides of the Dice fraction, in pixels: of a mask without a pixel it would be 0 / 0.
DICE_SMOOTHING = 1.0


class SegmentationHead(nn.Module):
    """Two transposed convolutions, each of which doubles the side, and a convolution: a map of four times the side.

    INP-Former++ says that much of its residual head; kernels (4, then 3) and ReLU are ours.
    """

    def __init__(self, channels: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        first, second = hidden
        self.up1 = nn.ConvTranspose2d(channels, first, 4, stride=2, padding=1)
        self.up2 = nn.ConvTranspose2d(first, second, 4, stride=2, padding=1)
        self.out = nn.Conv2d(second, 1, 3, padding=1)

    def forward(self, grid: Tensor) -> Tensor:
        """[B, C, h, w] to logits [B, 4h, 4w]."""
        logits: Tensor = self.out(F.relu(self.up2(F.relu(self.up1(grid)))))
        return logits[:, 0]


def probabilities(logits: Tensor) -> Tensor:
    """A head's logits [B, 4h, 4w] as the map of the masks' size: [B, 256, 256]."""
    found = logits.float().sigmoid()[:, None]
    return F.interpolate(found, size=(MAP_SIZE, MAP_SIZE), mode="bilinear", align_corners=False)[:, 0]


def dice_loss(found: Tensor, masks: Tensor) -> Tensor:
    """1 - Dice, mean over images: `found` (probabilities) and `masks`, each [B, H, W] between 0 and 1."""
    found, masks = precise(found).flatten(1), precise(masks).flatten(1)
    both = 2 * (found * masks).sum(dim=1) + DICE_SMOOTHING
    return (1 - both / (found.sum(dim=1) + masks.sum(dim=1) + DICE_SMOOTHING)).mean()
