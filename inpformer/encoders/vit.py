"""The frozen plain ViT of timm: what its tapped blocks give.

DINOv2's published features come with positions resized in one particular way; timm resizes them in another. The
reference's way is used here, so that published checkpoints see the features they were trained on.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from inpformer.encoders.shapes import Level
from inpformer.encoders.taps import check_taps, middle_taps
from inpformer.errors import UserError

# Added to the target side before dividing, as DINOv2 does against rounding down (its `interpolate_offset`).
POSITION_OFFSET = 0.1


class ViTEncoder(nn.Module):
    """A ViT cut after its last tapped block, without its final norm; class and register tokens are dropped."""

    picture = None

    def __init__(self, vit: VisionTransformer, image_size: int, taps: tuple[int, ...] | None = None) -> None:
        """`image_size` in pixels is the side of the square images that will come; `taps` None INP-Former's blocks.

        Raises UserError if the size is no multiple of the patch size, or the ViT has not these blocks.
        """
        super().__init__()
        side = tokens_a_side(image_size, vit.patch_embed.patch_size[0])
        depth = len(vit.blocks)
        self.taps = middle_taps(depth) if taps is None else check_taps(taps, depth)
        self.heads = heads_of(vit)
        self.levels = (Level(side, vit.embed_dim),) * len(self.taps)
        self.patch_embed = vit.patch_embed.proj
        self.norm_pre = vit.norm_pre
        self.blocks = vit.blocks[: self.taps[-1] + 1]
        self.prefix_tokens: int = vit.num_prefix_tokens
        positions: Tensor | None = vit.pos_embed
        if positions is None:
            raise UserError("the encoder has no learned positions: INP-Former is defined for plain ViTs.")
        # A ViT may have neither class nor register tokens: then the prefix is empty.
        prefix = torch.cat([t for t in (vit.cls_token, vit.reg_token, positions[:, :0]) if t is not None], dim=1)
        if not vit.no_embed_class:
            prefix = prefix + positions[:, : self.prefix_tokens]
            positions = positions[:, self.prefix_tokens :]
        self.prefix = nn.Parameter(prefix.detach().clone())
        self.positions = nn.Parameter(positions.detach().clone())
        self.register_buffer("resized_positions", resize_positions(self.positions, side), persistent=False)
        self.resized_positions: Tensor

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, S, S] normalised images to what each tapped block gives, [B, N, C]."""
        tokens = self.patch_embed(images).flatten(2).transpose(1, 2) + self.resized_positions
        tokens = self.norm_pre(torch.cat([self.prefix.expand(tokens.shape[0], -1, -1), tokens], dim=1))
        kept = []
        for number, block in enumerate(self.blocks):
            tokens = block(tokens)
            if number in self.taps:
                kept.append(tokens[:, self.prefix_tokens :])
        return kept


def tokens_a_side(image_size: int, patch: int) -> int:
    """Of an image of `image_size` pixels. Raises UserError if that is no multiple of `patch`."""
    if image_size % patch:
        nearest = max(1, round(image_size / patch)) * patch
        raise UserError(f"crop is {image_size}: it must be a multiple of the patch size {patch}, e.g. {nearest}.")
    return image_size // patch


def heads_of(vit: Any) -> int:
    """The attention heads of a timm ViT's blocks."""
    heads: int = vit.blocks[0].attn.num_heads
    return heads


def resize_positions(positions: Tensor, side: int) -> Tensor:
    """The position grid [1, P², C] for `side`² tokens: bicubic by scale factor, not antialiased, as DINOv2 does."""
    native = round(positions.shape[1] ** 0.5)
    if side == native:
        return positions.detach().clone()
    grid = positions.detach().float().view(1, native, native, -1).permute(0, 3, 1, 2)
    factor = (side + POSITION_OFFSET) / native
    resized = F.interpolate(grid, scale_factor=(factor, factor), mode="bicubic", antialias=False)
    return resized.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)
