"""AMI-Net against its authors' code: clusters, distances, masks, what is rebuilt, maps, losses, steps and gradients."""

import json
from collections.abc import Mapping

import torch
from torch import Tensor

from inpformer.methods.ami_net.losses import losses
from inpformer.methods.ami_net.network import AmiNetwork, NetworkShape
from inpformer.methods.base import Terms
from inpformer.nn.maps import differences, product_map, spread
from inpformer.nn.patches import cells
from tests.golden.row import EVALUATION, TRAINING, Row, row
from tests.golden.steps import adamw_steps, meaningful, ours

# The reference's names to ours, in this order.
NAMES = (
    (r"^auxi_embed\.proj", "cluster_embed"),
    (r"^auxiliary\.", "clusters.blocks."),
    (r"^norm_auxi", "clusters.norm"),
    (r"^cls_token", "clusters.tokens"),
    (r"^patch_embed\.proj", "embed"),
    (r"^inpainting_pred", "out"),
    (r"^pos_embed", "positions"),
)
TERMS = {"loss": "total", "cos": "cosine", "mse": "squared", "token": "token", "centre": "centre"}


def rows(meta: Mapping[str, str], golden: Mapping[str, Tensor]) -> list[Row]:
    """All groups, in the order in which the method computes them."""
    state = ours(golden, "model/", NAMES)
    positions = state.pop("positions")[0]
    network = build(meta)
    network.load_state_dict(state)
    found = evaluated(network.eval(), golden)
    steps, first = trained(network.train(), meta, golden)
    after = ours(golden, "after/", NAMES)
    weights = {name: value for name, value in network.state_dict().items() if name in after}
    return [
        row("positions", {"": network.positions}, {"": positions}, EVALUATION),
        *(row(key, {key: value}, {key: golden[key]}, EVALUATION) for key, value in (found | steps).items()),
        row("grad0", first, ours(golden, "grad0/", NAMES), TRAINING),
        row("after", meaningful(weights), meaningful(after), EVALUATION),
    ]


def build(meta: Mapping[str, str]) -> AmiNetwork:
    """The network of the sizes in the file."""
    config = json.loads(meta["config"])
    names = "img_size", "in_chans", "patch_size", "embed_dim", "depth", "num_heads", "center_num", "clu_depth"
    return AmiNetwork(NetworkShape(*(config[name] for name in names)), config["sigma"], float(meta["jitter_scale"]))


@torch.no_grad()
def evaluated(network: AmiNetwork, golden: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a trained network makes of the features, as the file calls it."""
    found = network(golden["features"])
    target, rebuilt = (cells(one, network.patch) for one in (found.target, found.rebuilt))
    large, maps = differences(target, rebuilt), product_map(target, rebuilt)
    return {
        "eval/clusters": found.centres,
        "eval/token_distance": found.distances,
        "eval/token_score": found.distances.amin(dim=2),
        "eval/keep": 1 - found.hidden.float(),
        "eval/reconstruction": rebuilt.permute(0, 3, 1, 2),
        "eval/mse_map_256": large[0, 0],
        "eval/cos_map_256": large[0, 1],
        "eval/anomaly_map": maps[0],
        "eval/image_score": spread(maps[:1]),
    }


def trained(
    network: AmiNetwork, meta: Mapping[str, str], golden: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the steps of the file give, with its masks and noise, and the gradients of the first one."""
    rebuilt = []

    def loss(number: int) -> Terms:
        hidden, noise = golden["train/keep"][number] == 0, golden["train/jitter"][number]
        found = network(golden["features"], hidden, noise.transpose(0, 1))
        rebuilt.append(cells(found.rebuilt.detach(), network.patch).permute(0, 3, 1, 2))
        return losses(found)

    terms, first = adamw_steps(network, meta, loss)
    steps = {f"train/{name}": terms[own] for name, own in TERMS.items()}
    return steps | {"train/reconstruction0": rebuilt[0][:1]}, first
