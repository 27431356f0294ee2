"""GLCF against its authors' code: latents, decoders, losses, maps, their statistics, scores, steps and gradients.

The maps are standardised by the statistics of image 0, as in the file; a trained model does so by its training images'.
Training is compared in 64 bit: in 32 a ReLU whose input is within rounding of 0 could be on or off, by the machine, and
move a gradient by a hundredth of the largest.
"""

import json
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from inpformer.encoders.shapes import Level
from inpformer.methods.glcf.losses import fused, losses, raw_maps
from inpformer.methods.glcf.network import Estimates, GlcfNetwork
from inpformer.methods.glcf.settings import GlcfSettings
from inpformer.nn.maps import spread
from tests.golden.row import EVALUATION, TRAINING, Row, row

# The reference's names to ours, in this order.
NAMES = (
    (r"^bottle\.patch_embed1\.proj", "bottleneck.embed.0"),
    (r"^bottle\.patch_embed2\.proj", "bottleneck.embed.1"),
    (r"^bottle\.patch_embed3\.proj", "bottleneck.embed.2"),
    (r"^bottle\.auxiliary_token", "bottleneck.semantic_token"),
    (r"^bottle\.latent_auxiliary_token", "bottleneck.place_token"),
    (r"^bottle\.decoder_embed", "bottleneck.between"),
    (r"^bottle\.(local|global)_decoder_blocks", r"bottleneck.\1_blocks"),
    (r"^bottle\.decoder_norm", "bottleneck.last_norm"),
    (r"^bottle\.decoder_pred", "bottleneck.out"),
    (r"^bottle\.", "bottleneck."),
    (r"^student_decoder_reg_local\.", "local."),
    (r"^student_decoder_reg_global\.", "expected."),
    (r"^student_decoder\.", "whole."),
    (r"\.layer1\.", ".stages.0."),
    (r"\.layer2\.", ".stages.1."),
    (r"\.layer3\.", ".stages.2."),
)
UNREAD = "bottle.cls_token"
POSITIONS = ("bottle.pos_embed", "bottle.decoder_pos_embed")
BATCHES = "num_batches_tracked"  # the file leaves them out
SCALES = 3


def rows(meta: Mapping[str, str], golden: Mapping[str, Tensor]) -> list[Row]:
    """All groups, in the order in which the method computes them."""
    network = build(meta, golden)
    groups = [golden[f"features{number}"].flatten(2).transpose(1, 2) for number in range(SCALES + 1)]
    positions = {name: golden[f"model/{name}"][0, 1:] for name in POSITIONS}  # without the class token's
    ours = dict.fromkeys(POSITIONS, network.bottleneck.positions)
    return [
        row("positions", ours, positions, EVALUATION),
        *_evaluation(network.eval(), groups, golden),
        *_training(network.double().train(), [group.double() for group in groups], meta, golden),
    ]


def build(meta: Mapping[str, str], golden: Mapping[str, Tensor]) -> GlcfNetwork:
    """The network with the weights and of the sizes in the file."""
    sizes = json.loads(meta["bottleneck"])
    levels = [Level(*one) for one in zip(json.loads(meta["grids"]), json.loads(meta["channels"]), strict=True)]
    network = GlcfNetwork(
        levels,
        sizes["embed_dim"],
        (sizes["depth"], sizes["decoder_depth"]),
        (sizes["num_heads"], sizes["decoder_num_heads"]),
        json.loads(meta["decoder_blocks"]),
    )
    stored = {key.removeprefix("model/"): value for key, value in golden.items() if key.startswith("model/")}
    state = {our_name(key): value for key, value in stored.items() if key not in (UNREAD, *POSITIONS)}
    missing = network.state_dict()
    network.load_state_dict(state | {key: value for key, value in missing.items() if key.endswith(BATCHES)})
    return network


def our_name(name: str) -> str:
    """Of a tensor that the reference calls so."""
    for pattern, ours in NAMES:
        name = re.sub(pattern, ours, name)
    return name


def _evaluation(network: GlcfNetwork, groups: list[Tensor], golden: Mapping[str, Tensor]) -> list[Row]:
    with torch.no_grad():
        found = network(*groups)
        latents = network.bottleneck([golden[f"features{number}"] for number in range(1, SCALES + 1)])
        maps = raw_maps(found, golden["eval/local_map0"].shape[-1])[:1]
    mean, std = maps.mean(dim=(0, 3, 4)), maps.std(dim=(0, 3, 4), unbiased=False)
    weights = torch.tensor(GlcfSettings().scale_weights)
    local, whole = (torch.stack([weights * on, weights * (1 - on)]) for on in (1, 0))
    ours = {"local_latent": latents[0], "global_latent": latents[1]}
    for name, levels in _by_name(found).items():
        ours |= {f"{name}{number}": level[:1] for number, level in enumerate(levels)}
    ours |= {
        "loss": torch.stack(losses(found)).sum()[None],
        "local_map0": maps[0, 0, 0],
        "global_map2": maps[0, 1, 2],
        "map_mean_std": torch.stack([mean, std], dim=-1),
        "local_fused_std": spread(fused(maps, mean, std, local)),
        "global_fused_std": spread(fused(maps, mean, std, whole)),
    }
    return [row(f"eval/{key}", {key: value}, {key: golden[f"eval/{key}"]}, EVALUATION) for key, value in ours.items()]


def _by_name(found: Estimates) -> dict[str, list[Tensor]]:
    return {"local": found.local, "global": found.whole, "global_estimate": found.expected}


def _training(
    network: GlcfNetwork, groups: list[Tensor], meta: Mapping[str, str], golden: Mapping[str, Tensor]
) -> list[Row]:
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=float(meta["lr"]),
        betas=tuple(json.loads(meta["betas"])),
        weight_decay=float(meta["weight_decay"]),
    )
    first, table = {}, []
    for number in range(int(meta["steps"])):
        terms = torch.stack(losses(network(*groups)))
        optimizer.zero_grad()
        terms.sum().backward()
        if number == 0:
            first = {name: one.grad.clone() for name, one in network.named_parameters() if one.grad is not None}
        optimizer.step()
        table.append(terms.detach())
    gradients = {our_name(key.removeprefix("grad0/")): one for key, one in golden.items() if key.startswith("grad0/")}
    return [
        row("train/losses", {"losses": torch.stack(table)}, {"losses": golden["train/losses"]}, TRAINING),
        row("grad0", first, gradients, TRAINING),
    ]
