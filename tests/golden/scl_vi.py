"""SCL-VI against its authors' code: vectors, logits, losses, gradients, the affinity, its map, the nearest neighbours.

The file holds no weights: they follow from a recipe in its metadata. The network is compared in 64 bit. It makes much
of rounding, as it normalises by groups of eight numbers: in 32 bit our own vectors move by 4e-5 of the largest from one
library for convolutions to another, and a gradient by 4e-3, as a ReLU whose input is within rounding of 0 is on or off.
One of the file's is on (ON) that is off in exact arithmetic, by 3e-6; here it is on too, else the first layer's
gradient is 1.7e-3 off.

Where a patch is among the normal ones (a distance of 0) the reference gives that neighbour the least weight, so that
the patch scores high; ours scores 0. These cells are named, left out of the comparison, and compared with 0.
"""

import json
import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpformer.methods.scl_vi.affinity import affinity, spread_out
from inpformer.methods.scl_vi.network import SclViNetwork
from inpformer.methods.scl_vi.settings import SMALL
from inpformer.nn.memory import nearest
from tests.golden.row import EVALUATION, TRAINING, Row, row

# The reference's names to ours, in this order.
NAMES = (
    (r"^enc\.enc\.conv\.", "small.layers."),
    (r"^enc\.(conv[12])", r"joined.\1"),
    (r"^cls\.", "relation_large."),
)
GOLDEN_RATIO, KEY_STEP = 0.6180339887498949, 0.137  # of the recipe
VECTORS = 5e-5  # of the smaller patches: the reference's own rounding
# Of the first patches' quadrants: layer, then quadrant, channel, row and column; and how near 0 its input must be.
ON, NEAR = (15, (14, 31, 3, 1)), 1e-5
MAP = re.compile(r"affinity/map_(\d+)_K(\d+)_S(\d+)")


def rows(meta: Mapping[str, str], golden: Mapping[str, Tensor]) -> list[Row]:
    """All groups, in the order in which the method computes them."""
    network = build(meta)
    return [*_network(network, golden), *_affinity(golden), *_neighbours(golden, int(meta["k"]))]


def build(meta: Mapping[str, str]) -> SclViNetwork:
    """The network with the weights that the recipe gives; the file has a classifier of the larger patches alone."""
    shapes = json.loads(meta["encoder_shapes"])
    network = SclViNetwork(shapes["enc.conv.0.weight"][0], int(meta["D"]), trained_relations=False)
    state = network.state_dict()
    for prefix, key in (("enc", "encoder_keys"), ("cls", "classifier_keys")):
        for number, name in enumerate(json.loads(meta[key])):
            ours = our_name(f"{prefix}.{name}")
            state[ours] = weights(state[ours].shape, number, name)
    network.load_state_dict(state)
    return network.eval().double()


def our_name(name: str) -> str:
    """Of a tensor that the reference calls so."""
    for pattern, ours in NAMES:
        name = re.sub(pattern, ours, name)
    return name


def weights(shape: Sequence[int], number: int, name: str) -> Tensor:
    """Of the tensor that is the `number`-th of its module by name."""
    count = torch.Size(shape).numel()
    uniform = 2 * ((GOLDEN_RATIO * torch.arange(1, count + 1, dtype=torch.float64) + KEY_STEP * number) % 1) - 1
    if len(shape) >= 2:
        found = uniform * (3 / torch.Size(shape[1:]).numel()) ** 0.5
    else:
        found = 0.2 * uniform + (1 if name.endswith("weight") else 0)
    return found.view(*shape).float()


def switched_on(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor | None:
    """A ReLU whose input ON is on although it is below 0, if only by rounding."""
    (given,), place = inputs, ON[1]
    if (
        any(at >= size for at, size in zip(place, given.shape, strict=True))
        or not -NEAR < float(given.detach()[place]) < 0
    ):
        return None
    on = torch.zeros_like(given)
    on[place] = 1
    return output + on * given


def _network(network: SclViNetwork, golden: Mapping[str, Tensor]) -> list[Row]:
    first, second = golden["patches64_a"].double(), golden["patches64_b"].double()
    hook = network.small.layers[ON[0]].register_forward_hook(switched_on)
    one = network.embed_large(first)
    hook.remove()
    other = network.embed_large(second)
    logits = network.relation_large(one, other)
    losses = {
        "position_loss": F.cross_entropy(logits, golden["labels"])[None],
        "svdd_loss": torch.linalg.vector_norm(one - other, dim=1).mean()[None],
    }
    torch.stack(list(losses.values())).sum().backward()
    # What has no gradient is told by 0 in the file: the weights that stay as they were drawn.
    read = {name: value for name, value in network.named_parameters() if not name.startswith("relation_small")}
    gradients = {name: torch.zeros(1) if value.grad is None else value.grad for name, value in read.items()}
    ours = {
        "eval/embedding64": one,
        "eval/embedding32": network.small(first[..., :SMALL, :SMALL]),
        "eval/logits": logits,
        **{f"train/{name}": value for name, value in losses.items()},
    }
    limits = {"eval/embedding32": VECTORS}
    found = [
        row(name, {name: value.detach()}, {name: golden[name]}, limits.get(name, EVALUATION))
        for name, value in ours.items()
    ]
    for name in ("conv2.weight", "enc.conv.0.weight"):
        mine = gradients[our_name(f"enc.{name}")]
        found.append(row(f"grad/{name}", {name: mine}, {name: golden[f"grad/{name}"]}, TRAINING))
    norms = {name: value.norm()[None] for name, value in gradients.items()}
    stored = {
        our_name(key.removeprefix("gradnorm/")): one for key, one in golden.items() if key.startswith("gradnorm/")
    }
    return [*found, row("gradnorm", norms, stored, TRAINING)]


def _affinity(golden: Mapping[str, Tensor]) -> list[Row]:
    distances, scores = golden["affinity/distances"], golden["affinity/score"]
    exact = distances.amin(dim=-1) == 0
    cells = ", ".join(map(str, exact.nonzero().tolist()))
    mine = affinity(distances)
    (name,) = (key for key in golden if MAP.fullmatch(key))
    side, size, stride = (int(number) for number in MAP.fullmatch(name).groups())  # type: ignore[union-attr]
    without = torch.where(exact, scores, mine)[:1]  # in the map these cells are the reference's
    maps = spread_out(without, size, stride, side)
    note = f"without {cells}, where a distance is 0: see affinity/exact"
    zero = f"0 at {cells}, where the reference has up to {float(scores[exact].max()):.2f}: an exact match counted least"
    return [
        row("affinity/score", {"": mine[~exact]}, {"": scores[~exact]}, EVALUATION, note),
        row("affinity/exact", {"": mine[exact]}, {"": torch.zeros_like(scores[exact])}, 0.0, zero),
        row("affinity/map", {"": maps}, {"": golden[name]}, EVALUATION, note),
    ]


def _neighbours(golden: Mapping[str, Tensor], count: int) -> list[Row]:
    query, bank = golden["knn/query"], golden["knn/bank"]
    near = nearest(query.flatten(1, 2), bank.flatten(0, 2), count).view(*query.shape[:3], -1)
    ours = {"knn/distances": near, "knn/score": affinity(near)}
    return [row(name, {name: value}, {name: golden[name]}, EVALUATION) for name, value in ours.items()]
