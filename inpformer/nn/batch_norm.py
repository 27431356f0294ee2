"""Batch normalisation over the whole batch that several workers share."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from inpformer.nn.precision import precise


class SharedBatchNorm(nn.BatchNorm2d):
    """As torch's BatchNorm2d, which it is on one worker. On several it normalises by mean and variance of the batch of
    all of them, however unevenly that is shared, so that they learn what one would; torch's SyncBatchNorm does so on
    GPUs alone. In training all workers must run it equally often.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] of this worker's images, normalised."""
        if not self.training or not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x)
        exact = precise(x)
        mean, variance, count = shared_moments(exact)
        self._remember(mean.detach(), variance.detach(), count)
        scale = self.weight * (variance + self.eps).rsqrt()
        return ((exact - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Moving averages, as torch has them: of the variance as it is estimated from a sample."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


def shared_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance [C] of all workers' [B, C, H, W], and [1] how many numbers a channel has; gradients flow back
    to all workers.
    """
    channels = x.shape[1]
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), unbiased=False)
    own = torch.cat([mean, variance, x.new_full((1,), x.numel() / channels)])
    # Each fills a row of its own, so that their sum is all rows: sums of squares, which are simpler, cancel in 32 bit.
    rows = own.new_zeros(dist.get_world_size(), len(own))
    rows[dist.get_rank()] = own
    means, variances, counts = _Sum.apply(rows).split([channels, channels, 1], dim=1)
    total = counts.sum(dim=0)
    mean = (counts * means).sum(dim=0) / total
    variance = (counts * (variances + (means - mean).square())).sum(dim=0) / total
    return mean, variance, total


class _Sum(torch.autograd.Function):
    """The sum over the workers; its gradient is the sum of theirs, as the loss is all workers'."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
