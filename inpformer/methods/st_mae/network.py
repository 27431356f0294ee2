"""ST-MAE's trained part: two halves of an image's tokens are read apart, and each place is rebuilt from the other's."""

import torch
from torch import Tensor, nn

from inpformer.nn.mae import MaeDecoder, MaeEncoder, MaeShape
from inpformer.nn.patches import patchify


class StMaeNetwork(nn.Module):
    """Everything that is trained."""

    def __init__(self, shape: MaeShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder, self.decoder = MaeEncoder(shape), MaeDecoder(shape)

    def forward(self, grid: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, C, S, S] to their patches and what is made of them: [B, N, p²·C]. The first half of an image's
        tokens, in its order [B, N], is read apart from the second.
        """
        first, second = self.halves(grid, orders)
        # A place of the first half gets a latent of the second, and the other way round.
        swapped = torch.cat([second[:, 1:], first[:, 1:]], dim=1)
        latents = in_order(swapped, orders.argsort(dim=1))
        return patchify(grid, self.shape.patch), self.decoder(first[:, :1], latents)

    def halves(self, grid: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
        """The latents of both halves, each [B, 1 + N/2, D], the class token's first."""
        first, second = in_order(self.encoder.tokens(grid), orders).chunk(2, dim=1)
        return self.encoder(first), self.encoder(second)


def in_order(tokens: Tensor, orders: Tensor) -> Tensor:
    """Tokens [B, N, E] by their numbers [B, N]."""
    return tokens.gather(1, orders[:, :, None].expand(-1, -1, tokens.shape[2]))
