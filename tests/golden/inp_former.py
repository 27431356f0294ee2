"""INP-Former against its authors' code: evaluation, losses, gradients and weights after some steps."""

from collections.abc import Mapping
from functools import partial

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from inpformer.encoders.shapes import EncoderShape
from inpformer.encoders.vit import ViTEncoder
from inpformer.methods.inp_former.losses import losses
from inpformer.methods.inp_former.model import InpFormer, reconstruction_map, zero_shot_map
from inpformer.methods.inp_former.network import INPFormer, NetworkShape
from inpformer.methods.inp_former.official import encoder_state, trained_key, trained_state
from inpformer.methods.inp_former.settings import InpFormerSettings, LossSettings
from inpformer.nn.maps import image_scores
from inpformer.nn.optim import StableAdamW, learning_rate
from inpformer.training.step import train_step
from tests.golden.row import EVALUATION, TRAINING, Row, row

# The key half of this bias has a zero gradient (softmax does not see it): Adam's steps there follow rounding.
NOISE = "extractor.attn.kv.bias"


def rows(meta: Mapping[str, str], tensors: Mapping[str, Tensor]) -> list[Row]:
    """All groups, in the order in which the method computes them."""
    state = {k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")}
    encoder, model = build(meta, state)
    return [*_evaluation(encoder, model, meta, tensors), *_training(encoder, model, meta, tensors)]


def build(meta: Mapping[str, str], state: Mapping[str, Tensor]) -> tuple[ViTEncoder, INPFormer]:
    """The frozen and the trained part from an official state dict and the sizes in the file's metadata."""
    channels, heads = int(meta["embed_dim"]), int(meta["num_heads"])
    vit = VisionTransformer(
        img_size=int(meta["pretrain_image_size"]),
        patch_size=int(meta["patch_size"]),
        embed_dim=channels,
        depth=int(meta["depth"]),
        num_heads=heads,
        init_values=1.0,
        reg_tokens=int(meta["register_tokens"]),
        no_embed_class=True,
        num_classes=0,
    )
    vit.load_state_dict(encoder_state(state))
    taps = tuple(int(t) for t in meta["target_layers"].split(","))
    encoder = ViTEncoder(vit.eval().requires_grad_(False), int(meta["image_size"]), taps)
    model = INPFormer(NetworkShape(channels, heads, 2, int(meta["num_prototypes"])))
    model.load_state_dict(trained_state(state))
    return encoder, model


def _evaluation(
    encoder: ViTEncoder, model: INPFormer, meta: Mapping[str, str], golden: Mapping[str, Tensor]
) -> list[Row]:
    size = int(meta["image_size"])
    with torch.no_grad():
        target = groups(encoder, golden["images"][0])
        output = model(target)
        maps = reconstruction_map(output, size)
        zero_shot = zero_shot_map(output.fused, output.prototypes, size)
        ours = {
            "encoder_group0": _grid(output.target[:, 0]),
            "encoder_group1": _grid(output.target[:, 1]),
            "fused": output.fused,
            "prototypes": output.prototypes,
            "decoder_group0": _grid(output.decoded[:, 0]),
            "decoder_group1": _grid(output.decoded[:, 1]),
            "coherence_loss": losses(output, _loss_settings(meta)).coherence[None],
            "anomaly_map": maps[:, None],
            "image_score": image_scores(maps),
            "zero_shot_map": zero_shot[:, None],
            "zero_shot_score": image_scores(zero_shot),
        }
    return [
        row(f"eval/{name}", {name: value}, {name: golden[f"eval/{name}"]}, EVALUATION) for name, value in ours.items()
    ]


def _training(
    encoder: ViTEncoder, model: INPFormer, meta: Mapping[str, str], golden: Mapping[str, Tensor]
) -> list[Row]:
    optimizer = StableAdamW(
        model.parameters(),
        lr=float(meta["lr"]),
        eps=float(meta["eps"]),
        weight_decay=float(meta["weight_decay"]),
    )
    scalars: dict[str, list[float]] = {n: [] for n in ("loss", "soft_mining", "coherence", "lr", "grad_norm")}
    first_gradients = _gradients(encoder, model, meta, golden["images"][0])
    for number in range(int(meta["steps"])):
        rate = learning_rate(
            number,
            int(meta["schedule_total"]),
            float(meta["lr"]),
            float(meta["final_lr"]),
            int(meta["schedule_warmup"]),
        )
        with torch.no_grad():
            target = groups(encoder, golden["images"][number])
        step = train_step(model, optimizer, partial(_terms, model, target, meta), rate, float(meta["clip"]))
        scalars["loss"].append(float(step.terms["total"]))
        scalars["soft_mining"].append(float(step.terms["soft_mining"]))
        scalars["coherence"].append(float(step.terms["coherence"]))
        scalars["lr"].append(rate)
        scalars["grad_norm"].append(float(step.gradient_norm))
    found = [
        row(f"train/{n}", {n: torch.tensor(v, dtype=torch.float64)}, {n: golden[f"train/{n}"].double()}, TRAINING)
        for n, v in scalars.items()
    ]
    found.append(row("grad0", first_gradients, _named(golden, "grad0/"), TRAINING))
    found.append(row("after", _meaningful(dict(model.state_dict())), _named(golden, "after/"), TRAINING))
    return found


def _gradients(encoder: ViTEncoder, model: INPFormer, meta: Mapping[str, str], images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        target = groups(encoder, images)
    losses(model(target), _loss_settings(meta)).total.backward()
    return _meaningful({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})


def groups(encoder: ViTEncoder, images: Tensor) -> Tensor:
    """[B, G, N, C], grouped as the method groups them."""
    shape = EncoderShape(encoder.levels, encoder.heads)
    return torch.stack(InpFormer.wants(InpFormerSettings(grid=None), shape).of(encoder(images)), dim=1)


def _terms(model: INPFormer, target: Tensor, meta: Mapping[str, str]) -> dict[str, Tensor]:
    found = losses(model(target), _loss_settings(meta))
    return {"total": found.total, "soft_mining": found.soft_mining, "coherence": found.coherence}


def _loss_settings(meta: Mapping[str, str]) -> LossSettings:
    return LossSettings(float(meta["coherence_weight"]), float(meta["mining_power"]))


def _named(golden: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return _meaningful({trained_key(k.removeprefix(prefix)): v for k, v in golden.items() if k.startswith(prefix)})


def _meaningful(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v[v.shape[0] // 2 :] if k == NOISE else v for k, v in tensors.items()}


def _grid(tokens: Tensor) -> Tensor:
    side = round(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).unflatten(2, (side, side))
