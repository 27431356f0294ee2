"""The quality benchmark computes in what the processor can do in hardware."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.quality.compare import BATCH, CHANNELS, train


class Types(TorchDispatchMode):
    """The types of all tensors that come out of an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.seen |= {out.dtype} if isinstance(out, torch.Tensor) else set()
        return out


def test_a_cpu_trains_without_bfloat16() -> None:
    tokens = torch.randn(BATCH, 1, 16, CHANNELS)
    with Types() as types:
        train(tokens, 1)
    assert torch.float32 in types.seen
    assert torch.bfloat16 not in types.seen
