"""DADF's losses, and the map that its flows make."""

import torch
import torch.nn.functional as F
from torch import Tensor

from inpformer.methods.dadf.flow import Latents
from inpformer.methods.dadf.reconstruction import Rebuilt
from inpformer.nn.precision import precise


def squared_errors(rebuilt: Rebuilt) -> tuple[Tensor, Tensor]:
    """Of the image's stream and of the memory's: the sum over levels of the mean squared error."""
    return tuple(  # type: ignore[return-value]
        torch.stack(
            [F.mse_loss(precise(grid), target) for grid, target in zip(stream, rebuilt.target, strict=True)]
        ).sum()
        for stream in (rebuilt.sample, rebuilt.memory)
    )


def surprises(latents: Latents) -> Tensor:
    """The negative log-likelihood of each level, up to a constant: the mean over images, in nats: [levels]."""
    return torch.stack(
        [
            (value.square().flatten(1).sum(dim=1) / 2 - log_determinant).mean()
            for value, log_determinant in zip(latents.values, latents.log_determinants, strict=True)
        ]
    )


def dimensions(latents: Latents) -> Tensor:
    """How many numbers an image has, by level: [levels]."""
    return torch.tensor([value[0].numel() for value in latents.values], device=latents.values[0].device)


def worth(loss: Tensor, value: Tensor) -> Tensor:
    """What has the gradient of `loss` and reads as `value`: a loss in a unit that a person can follow."""
    return value.detach() + (loss - loss.detach())


def likelihood_map(latents: Latents, size: int) -> Tensor:
    """How unlikely each place is, the mean over levels, higher is less likely: [B, size, size], from -e to 0."""
    grids = [-torch.exp(1 - value.square().mean(dim=1, keepdim=True) / 2) for value in latents.values]
    large = [F.interpolate(grid, (size, size), mode="bilinear", align_corners=False) for grid in grids]
    return torch.cat(large, dim=1).mean(dim=1)


def energy_map(likelihood: Tensor) -> Tensor:
    """The same order in values from 0 on, which do not round to one where a place is very unlikely. Of one level it is
    half the mean square of the latent's channels: what a normal place has is about ½.
    """
    return 1 - (-likelihood).clamp(min=torch.finfo(likelihood.dtype).tiny).log()
