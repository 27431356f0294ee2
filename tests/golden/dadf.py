"""DADF against its authors' code: both streams, the flows, their losses, maps, scores, steps and gradients.

The flows see what the reconstruction makes before it is trained, as in the file.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.methods.base import TOTAL, Train
from inpformer.methods.dadf.losses import likelihood_map, surprises
from inpformer.methods.dadf.model import Dadf, side_by_side
from inpformer.methods.dadf.settings import DadfSettings, FlowSettings
from tests.golden.row import EVALUATION, TRAINING, Row, row
from tests.golden.steps import meaningful, ours

# The reference's names to ours.
NAMES = (
    (r"^sem_token$", "memory"),
    (r"^patch_embed1\.proj", "embed.levels.0"),
    (r"^patch_embed2\.proj", "embed.levels.1"),
    (r"^patch_embed3\.proj", "embed.levels.2"),
    (r"^decoder_pred1", "predict.levels.0"),
    (r"^decoder_pred2", "predict.levels.1"),
    (r"^decoder_pred3", "predict.levels.2"),
    (r"^norms\.(\d+)", r"levels.\1.norm"),
    (r"^nf_flows\.(\d+)\.module_list\.(\d+)", r"levels.\1.steps.\2"),
    (r"global_scale$", "scale"),
    (r"global_offset$", "shift"),
)
POSITIONS = "model/pos_embed"
# In the text that describes the flows' optimiser.
FLOW_RATE, FLOW_PENALTY = r"lr ([\d.e-]+)", r"L2 ([\d.e-]+)"


def rows(meta: Mapping[str, str], golden: Mapping[str, Tensor]) -> list[Row]:
    """All groups, in the order in which the method computes them."""
    model = build(meta, golden)
    groups = [golden[f"features{level}"].flatten(2).transpose(1, 2) for level in range(len(model.flows.levels))]
    positions = {POSITIONS: golden[POSITIONS][0, 1:]}  # without the class token's
    reconstruct, fit_flows = (phase for phase in model.phases() if isinstance(phase, Train))
    text = meta["flow_optimiser"]
    flow = {"lr": _number(FLOW_RATE, text), "weight_decay": _number(FLOW_PENALTY, text)}
    own = {"lr": float(meta["lr"]), "betas": json.loads(meta["betas"]), "weight_decay": float(meta["weight_decay"])}
    return [
        row("positions", {POSITIONS: model.reconstruction.positions}, positions, EVALUATION),
        *_evaluation(model, groups, golden),
        *_training(fit_flows, groups, flow, int(meta["steps"]), golden, "flow_"),
        *_training(reconstruct, groups, own, int(meta["steps"]), golden, ""),
        row("after", meaningful(model.reconstruction.state_dict()), meaningful(_named(golden, "after/")), EVALUATION),
    ]


def build(meta: Mapping[str, str], golden: Mapping[str, Tensor]) -> Dadf:
    """The method's model with the weights and of the sizes in the file."""
    sizes, depth = json.loads(meta["config"]), json.loads(meta["flow"])["flow_steps"]
    levels = tuple(Level(*one) for one in zip(sizes["img_size"], sizes["in_chans"], strict=True))
    settings = DadfSettings(sizes["embed_dim"], sizes["depth"], sizes["num_heads"], flow=FlowSettings(depth))
    model = Dadf(settings, EncoderShape(levels, None))
    state = _named(golden, "model/")
    del state[POSITIONS.removeprefix("model/")]
    model.reconstruction.load_state_dict(state)
    model.flows.load_state_dict(_named(golden, "flow/"))
    return model


def _evaluation(model: Dadf, groups: list[Tensor], golden: Mapping[str, Tensor]) -> list[Row]:
    size = golden["eval/anomaly_map"].shape[-1]
    with torch.no_grad():
        rebuilt = model.reconstruction(*groups)
        latents = model.flows(*side_by_side(rebuilt))
        maps = likelihood_map(latents, size)
        found: dict[str, Tensor] = {}
        for level in range(len(groups)):
            found |= {f"self{level}": rebuilt.sample[level], f"memory{level}": rebuilt.memory[level]}
            found |= {f"z{level}": latents.values[level], f"logdet{level}": latents.log_determinants[level]}
        found |= {"flow_loss": surprises(latents).sum()[None]}
        found |= {"anomaly_map": maps[:, None], "image_score": model.scores(maps)}
    return [row(f"eval/{key}", {key: value}, {key: golden[f"eval/{key}"]}, EVALUATION) for key, value in found.items()]


def _training(
    phase: Train, groups: list[Tensor], options: dict[str, Any], steps: int, golden: Mapping[str, Tensor], which: str
) -> list[Row]:
    """The phase's own loss and optimiser, with the file's rates. `which` begins the names in the file."""
    optimizer = phase.optimizer(phase.network.parameters())
    optimizer.param_groups[0].update(options)
    values, first = [], {}
    for number in range(steps):
        terms = phase.loss(phase.network, groups, None, ())
        optimizer.zero_grad()
        terms[TOTAL].backward()
        if number == 0:
            first = {name: one.grad.clone() for name, one in phase.network.named_parameters() if one.grad is not None}
        optimizer.step()
        values.append(_value(terms, groups, which))
    loss = {"loss": torch.stack(values)}
    return [
        row(f"train/{which}loss", loss, {"loss": golden[f"train/{which}loss"]}, EVALUATION),
        row(f"{which}grad0", first, _named(golden, f"{which}grad0/"), TRAINING),
    ]


def _value(terms: Mapping[str, Tensor], groups: list[Tensor], which: str) -> Tensor:
    """The reference's loss: the flows' is the sum over levels of that over all numbers, ours is a number's."""
    if not which:
        return terms[TOTAL].detach()
    each = [3 * group[0].numel() * terms[f"flow_{level}"] for level, group in enumerate(groups)]
    return torch.stack(each).sum().detach()


def _named(golden: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, by our names and in our shapes."""
    found = ours(golden, prefix, NAMES)
    return {name: one.flatten() if name.endswith(("scale", "shift")) else one for name, one in found.items()}


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"no {pattern} in {text!r}")
    return float(found[1])
