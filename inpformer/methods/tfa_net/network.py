"""TFA-Net's trained part: image and reference are read together, and the reference's places become the image."""

import torch
from torch import Tensor, nn

from inpformer.nn.mae import MaeDecoder, MaeEncoder, MaeShape
from inpformer.nn.patches import patchify


class TfaNetwork(nn.Module):
    """Everything that is trained. The decoder has the latents of the reference's places, not of the image's: what it
    knows of the image came there by attention.
    """

    def __init__(self, shape: MaeShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder, self.decoder = MaeEncoder(shape), MaeDecoder(shape)

    def forward(self, grid: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, C, S, S] and as many references to the images' patches and what is made of them: [B, N, p²·C]."""
        both = torch.cat([self.encoder.tokens(grid), self.encoder.tokens(reference)], dim=1)
        latents = self.encoder(both)
        rebuilt = self.decoder(latents[:, :1], latents[:, 1 + self.shape.tokens :])
        return patchify(grid, self.shape.patch), rebuilt
