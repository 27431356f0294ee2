"""Gradient steps as a golden file describes them, and its tensors under our names."""

import json
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from inpformer.methods.base import TOTAL, Terms

Names = Sequence[tuple[str, str]]
KEYS_BIAS = "attn.qkv.bias"


def adamw_steps(
    network: nn.Module, meta: Mapping[str, str], loss: Callable[[int], Terms]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The file's steps of AdamW, each with the terms that `loss` gives of its number. Returns every term, of all steps,
    and the gradients of the first step.
    """
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=float(meta["lr"]),
        betas=tuple(json.loads(meta["betas"])),
        weight_decay=float(meta["weight_decay"]),
    )
    table, first = [], {}
    for number in range(int(meta["steps"])):
        terms = loss(number)
        optimizer.zero_grad()
        terms[TOTAL].backward()
        if number == 0:
            first = {name: one.grad.clone() for name, one in network.named_parameters() if one.grad is not None}
        optimizer.step()
        table.append({name: value.detach() for name, value in terms.items()})
    return {name: torch.stack([terms[name] for terms in table]) for name in table[0]}, first


def ours(golden: Mapping[str, Tensor], prefix: str, names: Names) -> dict[str, Tensor]:
    """The tensors below `prefix`, each by our name: `names` are patterns and what stands for them, tried in order."""
    found = {}
    for key, tensor in golden.items():
        if key.startswith(prefix):
            name = key.removeprefix(prefix)
            for pattern, own in names:
                name = re.sub(pattern, own, name)
            found[name] = tensor
    return found


def theirs(tensors: Mapping[str, Tensor], prefix: str, names: Names) -> dict[str, Tensor]:
    """The counterpart of `ours`: `names` are patterns of our names and what stands for them."""
    return {f"{prefix}{name}": tensor for name, tensor in ours(tensors, "", names).items()}


def meaningful(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the keys' third of a bias: softmax does not see it, so its gradient, and Adam's step, is rounding."""
    return {
        name: torch.cat([tensor.chunk(3)[0], tensor.chunk(3)[2]]) if name.endswith(KEYS_BIAS) else tensor
        for name, tensor in tensors.items()
    }
