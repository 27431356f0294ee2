"""The frozen DINOv3 ViT: what its tapped blocks give, as timm's own forward.

timm builds it as an `Eva`: no learned positions, but a rotation of queries and keys by the place of their patch, which
each block is given. The rotation follows the grid, so that any size of image has its own, and nothing is resized.
"""

from typing import Any

import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3
from timm.models.eva import Eva
from torch import Tensor, nn

from inpformer.encoders.shapes import Level
from inpformer.encoders.taps import check_taps, last_taps
from inpformer.encoders.vit import heads_of, tokens_a_side


class RotaryViTEncoder(nn.Module):
    """A DINOv3 ViT cut after its last tapped block, without its final norm; class and register tokens are dropped."""

    picture = None

    def __init__(self, eva: Eva, image_size: int, taps: tuple[int, ...] | None = None) -> None:
        """`image_size` in pixels is the side of the square images that will come; `taps` None the last four blocks.

        Raises UserError if the size is no multiple of the patch size, or the ViT has not these blocks.
        """
        super().__init__()
        side = tokens_a_side(image_size, eva.patch_embed.patch_size[0])
        depth = len(eva.blocks)
        self.taps = last_taps(depth) if taps is None else check_taps(taps, depth)
        self.heads = heads_of(eva)
        self.levels = (Level(side, eva.embed_dim),) * len(self.taps)
        self.patch_embed = eva.patch_embed.proj
        self.norm_pre = eva.norm_pre
        self.blocks = eva.blocks[: self.taps[-1] + 1]
        self.prefix_tokens: int = eva.num_prefix_tokens
        tokens = [t for t in (eva.cls_token, eva.reg_token) if t is not None]
        self.prefix = nn.Parameter(torch.cat([torch.empty(1, 0, eva.embed_dim), *tokens], dim=1).detach().clone())
        rope: Any = eva.rope  # timm gives it no type
        self.register_buffer("rotation", rope.get_embed(shape=[side, side]), persistent=False)
        self.rotation: Tensor

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, S, S] normalised images to what each tapped block gives, [B, N, C]."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        tokens = self.norm_pre(torch.cat([self.prefix.expand(len(patches), -1, -1), patches], dim=1))
        kept = []
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, rope=self.rotation)
            if number in self.taps:
                kept.append(tokens[:, self.prefix_tokens :])
        return kept


def is_dinov3(model: nn.Module) -> bool:
    """Whether timm built `model` as a DINOv3: an `Eva` whose only positions are DINOv3's rotation."""
    return isinstance(model, Eva) and model.pos_embed is None and isinstance(model.rope, RotaryEmbeddingDinoV3)
