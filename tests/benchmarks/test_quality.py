"""The quality benchmark runs from pictures to a table, in what the processor can do in hardware."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.quality.compare import BATCH, read_method, run
from inpformer.errors import UserError
from tests.conftest import noise_parts


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


def test_methods_are_compared_on_pictures_without_bfloat16_on_a_cpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise_parts(tmp_path, BATCH)
    with Types() as types:
        run(tmp_path / "nut", ["nearest:neighbours=3", "inp_former:epochs=1,num_prototypes=2"], tmp_path / "store")
    header, _, nearest, inp_former = capsys.readouterr().out.splitlines()
    assert header.startswith("| method | I-AUROC | P-AUROC |")
    assert nearest.startswith("| nearest:neighbours=3 | ")
    assert inp_former.startswith("| inp_former:epochs=1,num_prototypes=2 | ")
    assert torch.float32 in types.seen
    assert torch.cuda.is_available() or torch.bfloat16 not in types.seen


@pytest.mark.parametrize("text", ["patchcore", "nearest:neighbours=0", "nearest:shape=1", "nearest:neighbours=many"])
def test_a_method_that_there_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        read_method(text)


@pytest.mark.parametrize("name", ["epoch", "metadata", "scaling", "tuning"])
def test_what_other_benchmarks_import_is_there(name: str) -> None:
    assert import_module(f"benchmarks.{name}.measure").run
