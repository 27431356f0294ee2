"""StableAdamW as INP-Former uses it (amsgrad and update clipping), its learning-rate schedule, and AdamW as the methods
use it that began with MAE.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

# What the optimiser keeps for each parameter, beside the number of steps.
OPTIMIZER_SLOTS = ("mean", "square", "max_square")
# Of AdamW. The decay is PyTorch's own, as their authors' code leaves it.
MAE_BETAS, MAE_DECAY = (0.9, 0.95), 0.01


class StableAdamW(Optimizer):
    """AdamW with amsgrad and update clipping after Adafactor (Wortsman et al. 2023, arXiv 2304.13013).

    The step of a tensor is divided by max(1, RMS(g / denominator)), so that a gradient far beyond its own history
    cannot throw the weights. `eps` stands outside the root.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-10,
        weight_decay: float = 1e-4,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; `closure` is not supported."""
        for group in self.param_groups:
            parameters = [one for one in group["params"] if one.grad is not None]
            # A GPU waits for each operation to be launched: it takes all tensors in one. A CPU's cache holds what
            # belongs to one tensor, not to all.
            on_cpu = all(one.device.type == "cpu" for one in parameters)
            for several in [[one] for one in parameters] if on_cpu else [parameters]:
                self._update(several, group)

    def _update(self, parameters: list[Tensor], group: Mapping[str, Any]) -> None:
        """One update of parameters that have a gradient; of each the same, whichever others are given."""
        beta1, beta2 = group["betas"]
        gradients = [one.grad for one in parameters if one.grad is not None]
        states = [self._begun_state(one) for one in parameters]
        means, squares, max_squares = ([state[name] for state in states] for name in OPTIMIZER_SLOTS)
        for state in states:
            state["step"] += 1
        rates = [-group["lr"] / (1 - beta1 ** state["step"]) for state in states]
        corrections = [math.sqrt(1 - beta2 ** state["step"]) for state in states]
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        torch._foreach_maximum_(max_squares, squares)
        denominators = torch._foreach_sqrt(max_squares)
        torch._foreach_div_(denominators, corrections)
        torch._foreach_add_(denominators, group["eps"])
        clips = list(torch._foreach_norm(torch._foreach_div(gradients, denominators)))
        torch._foreach_div_(clips, [math.sqrt(one.numel()) for one in parameters])
        torch._foreach_clamp_min_(clips, 1.0)
        torch._foreach_mul_(denominators, clips)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(parameters, means, denominators, rates)

    def _begun_state(self, parameter: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = 0
            state |= {name: torch.zeros_like(parameter) for name in OPTIMIZER_SLOTS}
        return state


def mae_adamw(params: Iterable[Tensor], lr: float) -> torch.optim.AdamW:
    """AdamW of AMI-Net, TFA-Net, ST-MAE, DADF's reconstruction and GLCF, and of our reading of PNPT."""
    return torch.optim.AdamW(params, lr=lr, betas=MAE_BETAS, weight_decay=MAE_DECAY)


def learning_rate(iteration: int, total: int, base: float = 1e-3, final: float = 1e-4, warmup: int = 100) -> float:
    """The rate of an iteration (0-based): linear from 0 to `base` over `warmup` iterations, then a cosine to
    `final` at iteration `total`. Counted in iterations, not epochs.
    """
    if iteration < warmup:
        return base * iteration / max(1, warmup - 1)
    progress = (iteration - warmup) / max(1, total - warmup)
    return final + 0.5 * (base - final) * (1 + math.cos(math.pi * progress))
