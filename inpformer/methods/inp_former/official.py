"""Reading the authors' naming: a plain state dict of DINOv2 encoder keys and INP-Former's own."""

from collections.abc import Mapping

import torch
from torch import Tensor

from inpformer.encoders.shapes import EncoderShape
from inpformer.errors import UserError
from inpformer.methods.inp_former.model import InpFormer
from inpformer.methods.inp_former.settings import InpFormerSettings

# By the channels of their tokens: the ViTs that the authors publish checkpoints for.
ENCODERS = {
    384: "vit_small_patch14_reg4_dinov2.lvd142m",
    768: "vit_base_patch14_reg4_dinov2.lvd142m",
    1024: "vit_large_patch14_reg4_dinov2.lvd142m",
}
_TRAINED = {"aggregation.0.": "extractor.", "bottleneck.0.": "bottleneck.", "decoder.": "decoder."}
_UNUSED = ("encoder.mask_token",)


def encoder_name(official: Mapping[str, Tensor]) -> str | None:
    """timm's name of the ViT of an authors' checkpoint; None if it is of no ViT that they used."""
    token = official.get("prototype_token")
    return None if token is None else ENCODERS.get(token.shape[-1])


def import_model(
    official: Mapping[str, Tensor], shape: EncoderShape, source: str
) -> tuple[InpFormerSettings, InpFormer]:
    """The model of an official state dict, for features of this shape, and its settings.

    Raises UserError naming `source` and the first key that is missing, unknown or of another shape.
    """
    state = trained_state(official)
    if "prototype_token" not in state or state["prototype_token"].ndim != 2:
        raise UserError(f"{source} has no prototype_token: it is no INP-Former checkpoint.")
    settings = InpFormerSettings(num_prototypes=state["prototype_token"].shape[0], grid=None, channels=None)
    model = InpFormer(settings, shape)
    model.load_tensors({f"network.{name}": tensor for name, tensor in state.items()}, source)
    return settings, model


def trained_state(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of `INPFormer` out of an official state dict.

    Raises UserError for a key that is neither of the encoder nor of the trained part.
    """
    state = {}
    for key, tensor in official.items():
        if key.startswith("encoder."):
            continue
        state[trained_key(key)] = tensor
    return state


def trained_key(key: str) -> str:
    """Our name of an official key of the trained part. Raises UserError for any other key."""
    if key == "prototype_token":
        return key
    for theirs, ours in _TRAINED.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    raise UserError(f"{key} is no key of an INP-Former checkpoint: check that the file is the authors' model.pth.")


def encoder_state(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of timm's ViT out of an official state dict: timm adds the class token's position to the token
    itself and keeps positions for patches only.

    Raises UserError if the encoder lacks one of DINOv2's tokens or positions.
    """
    theirs = {k.removeprefix("encoder."): v for k, v in official.items() if k.startswith("encoder.")}
    for name in ("cls_token", "register_tokens", "pos_embed"):
        if name not in theirs or theirs[name].ndim != 3:
            raise UserError(f"encoder.{name} is missing or misshapen: the encoder is no DINOv2 with register tokens.")
    state = {k: v for k, v in theirs.items() if f"encoder.{k}" not in _UNUSED}
    state["reg_token"] = state.pop("register_tokens")
    state["cls_token"] = theirs["cls_token"] + theirs["pos_embed"][:, :1]
    state["pos_embed"] = theirs["pos_embed"][:, 1:]
    return {k: torch.as_tensor(v) for k, v in state.items()}
