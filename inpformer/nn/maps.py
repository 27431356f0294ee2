"""From what differs on a grid to the anomaly map, and from that to the image score."""

import torch
import torch.nn.functional as F
from torch import Tensor

from inpformer.images.frame import MAP_SIZE
from inpformer.nn.precision import precise

BLUR_SIZE, BLUR_SIGMA = 5, 4.0
PRODUCT_SIGMA = 4.0  # pixels of the map
TOP_FRACTION = 0.01


def image_scores(maps: Tensor) -> Tensor:
    """The mean of a map's largest 1 % of pixels (of one at least): [B, H, W] gives [B]."""
    pixels = maps.flatten(1)
    top = pixels.topk(max(1, int(pixels.shape[1] * TOP_FRACTION)), dim=1).values
    # Rounding must not lift the mean above the largest value: a score above the threshold has a place on the map.
    return top.mean(dim=1).minimum(top[:, 0])


def spread(maps: Tensor) -> Tensor:
    """The standard deviation over each map's pixels: [B, H, W] gives [B]."""
    return maps.flatten(1).std(dim=1, unbiased=False)


def spread_scores(maps: Tensor) -> Tensor:
    """The standard deviation over each map's pixels; its largest value where that is less, so that a score above the
    threshold has a place on the map: [B, H, W] gives [B].
    """
    return spread(maps).minimum(maps.amax(dim=(1, 2)))


def product_map(target: Tensor, rebuilt: Tensor) -> Tensor:
    """Cells [B, S, S, C] to maps [B, 256, 256]: the product of both `differences`, each smoothed before (AMI-Net,
    TFA-Net, ST-MAE).
    """
    both: Tensor = smoothed(differences(target, rebuilt).flatten(0, 1), PRODUCT_SIGMA).unflatten(0, (-1, 2))
    return both[:, 0] * both[:, 1]


def differences(target: Tensor, rebuilt: Tensor) -> Tensor:
    """Cells [B, S, S, C] to [B, 2, 256, 256]: the mean squared difference over the channels, and 1 - the cosine."""
    one, other = precise(target), precise(rebuilt)
    both = torch.stack([(one - other).square().mean(dim=-1), 1 - F.cosine_similarity(one, other, dim=-1)], dim=1)
    return F.interpolate(both, (MAP_SIZE, MAP_SIZE), mode="bilinear", align_corners=True)


def to_map(distances: Tensor, image_size: int) -> Tensor:
    """[B, G, N] on a square grid, to pixels, mean of the groups, to 256×256, blurred (INP-Former, section 3.6)."""
    side = round(distances.shape[-1] ** 0.5)
    grid = distances.unflatten(-1, (side, side))
    pixels = F.interpolate(grid, size=(image_size, image_size), mode="bilinear", align_corners=True)
    mean = pixels.mean(dim=1, keepdim=True)
    resized = F.interpolate(mean, size=(MAP_SIZE, MAP_SIZE), mode="bilinear", align_corners=False)
    kernel = _gaussian(BLUR_SIZE // 2, BLUR_SIGMA, resized)
    rows = F.conv2d(resized, kernel.view(1, 1, -1, 1), padding=(BLUR_SIZE // 2, 0))
    return F.conv2d(rows, kernel.view(1, 1, 1, -1), padding=(0, BLUR_SIZE // 2))[:, 0]


def smoothed(maps: Tensor, sigma: float) -> Tensor:
    """Maps [B, H, W] under a Gaussian of `sigma` pixels, cut off at 4 sigma, as scipy's `gaussian_filter` has it:
    beyond its edge a map goes on mirrored.
    """
    radius = int(4 * sigma + 0.5)
    weight = _gaussian(radius, sigma, maps)
    rows, columns = (_mirrored(size, radius, maps.device) for size in maps.shape[1:])
    down = F.conv2d(maps[:, None, rows], weight.view(1, 1, -1, 1))
    return F.conv2d(down[..., columns], weight.view(1, 1, 1, -1))[:, 0]


def _mirrored(size: int, beyond: int, device: torch.device) -> Tensor:
    """Which of `size` places stands at each place from -beyond to size + beyond: … 1 0 0 1 …"""
    place = torch.arange(-beyond, size + beyond, device=device) % (2 * size)
    return place.minimum(2 * size - 1 - place)


def _gaussian(radius: int, sigma: float, like: Tensor) -> Tensor:
    offset = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    weight = torch.exp(-offset.square() / (2 * sigma**2))
    return weight / weight.sum()
