"""Standardising and reducing the channels of a convolutional encoder, with statistics of the training split."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from inpformer.config import require
from inpformer.errors import UserError

# Below this share of the mean variance a direction is numerical noise, not signal.
SMALLEST_VARIANCE = 1e-6
# The constant channel in units of the root mean square length of the training tokens (see Projection).
LIFT = 2.0


class Projection(nn.Module):
    """Standardises each channel, keeps the directions of largest variance (principal components), and adds one
    constant channel as the last.

    INP-Former compares tokens by cosine. Between centred tokens that says little: an average token is short, so
    its direction is noise, and a defect that only lengthens a token goes unseen. With a constant channel longer
    than most of them, the tokens lie before the origin, not around it, and their cosine distance grows with their
    Euclidean one.

    A ViT needs no projection: its channels already share one scale. Frozen; saved with the trained part.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Raises UserError if `out_channels` is below 2 or above `in_channels`."""
        super().__init__()
        right = f"between 2 and the encoder's {in_channels}"
        require(2 <= out_channels <= in_channels, "channels", out_channels, right)
        self.register_buffer("mean", torch.zeros(in_channels))
        self.register_buffer("matrix", torch.zeros(in_channels, out_channels - 1))
        self.register_buffer("constant", torch.zeros(1))
        self.mean: Tensor
        self.matrix: Tensor
        self.constant: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """[..., in_channels] of any float type to [..., out_channels] float32."""
        tokens = (features.float() - self.mean) @ self.matrix
        return torch.cat([tokens, self.constant.expand(*tokens.shape[:-1], 1)], dim=-1)

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fits to all tokens of `batches`, each [..., in_channels], in one pass and constant memory.

        Raises UserError if nothing was given.
        """
        in_channels, kept = self.matrix.shape
        count = 0
        total = torch.zeros(in_channels, dtype=torch.float64)
        products = torch.zeros(in_channels, in_channels, dtype=torch.float64)
        for batch in batches:
            tokens = batch.reshape(-1, in_channels).double().cpu()
            count += tokens.shape[0]
            total += tokens.sum(dim=0)
            products += tokens.T @ tokens
        if count == 0:
            raise UserError("there are no training features to fit the projection to: add training images.")
        mean = total / count
        covariance = products / count - torch.outer(mean, mean)
        variance = covariance.diagonal()
        scale = variance.clamp(min=SMALLEST_VARIANCE * float(variance.mean())).rsqrt()
        correlation = covariance * torch.outer(scale, scale)
        variances, directions = torch.linalg.eigh(correlation)
        # eigh sorts upwards and leaves signs open: fix both, so that a refit gives the same matrix.
        variances, directions = variances.flip(0)[:kept], directions.flip(1)[:, :kept]
        largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
        directions = directions * largest.sign()
        self.mean.copy_(mean)
        self.matrix.copy_(scale[:, None] * directions)
        # The variances of the kept directions add up to the mean square length of a projected token.
        self.constant.fill_(LIFT * float(variances.clamp(min=0).sum().sqrt()))
