"""StableAdamW as INP-Former uses it (amsgrad and update clipping), and its learning-rate schedule."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

# What the optimiser keeps for each parameter, beside the number of steps.
OPTIMIZER_SLOTS = ("mean", "square", "max_square")


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
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient, state = parameter.grad, self.state[parameter]
                if not state:
                    state["step"] = 0
                    for name in OPTIMIZER_SLOTS:
                        state[name] = torch.zeros_like(parameter)
                state["step"] += 1
                state["mean"].lerp_(gradient, 1 - beta1)
                state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                torch.maximum(state["max_square"], state["square"], out=state["max_square"])
                correction1 = 1 - beta1 ** state["step"]
                correction2 = math.sqrt(1 - beta2 ** state["step"])
                denominator = (state["max_square"].sqrt() / correction2).add_(group["eps"])
                clip = (gradient / denominator).square_().mean().sqrt_().clamp_(min=1.0)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.addcdiv_(state["mean"] / clip, denominator, value=-group["lr"] / correction1)


def learning_rate(iteration: int, total: int, base: float = 1e-3, final: float = 1e-4, warmup: int = 100) -> float:
    """The rate of an iteration (0-based): linear from 0 to `base` over `warmup` iterations, then a cosine to
    `final` at iteration `total`. Counted in iterations, not epochs.
    """
    if iteration < warmup:
        return base * iteration / max(1, warmup - 1)
    progress = (iteration - warmup) / max(1, total - warmup)
    return final + 0.5 * (base - final) * (1 + math.cos(math.pi * progress))
