"""The quality benchmark runs from pictures to a table, in what the processor can do in hardware."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.quality.compare import JUDGED, read_method, run
from benchmarks.quality.patchcore import PatchCore, tokens
from benchmarks.quality.spoil import KINDS, spoil
from inpformer.encoders.settings import EncoderSettings
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


def noise_image(file: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)).save(file)


SMALL = EncoderSettings(resize=64, crop=64, levels=(8, 16))
METHODS = ["nearest:grid=4", "inp_former:grid=4,epochs=1,num_prototypes=2,memory={grid: 8, tokens: 9}", "patchcore"]


@pytest.mark.parametrize("judged", JUDGED)
def test_methods_are_compared_on_pictures_without_bfloat16_on_a_cpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], judged: str
) -> None:
    noise_parts(tmp_path, 20)  # of which 4 are held out
    for number in range(1, 12):  # defects of which ten leave the test
        noise_image(tmp_path / f"nut/test/chip/{number}.png", number)
        noise_image(tmp_path / f"nut/ground_truth/chip/{number}.png", number)
    with Types() as types:
        run(tmp_path / "nut", METHODS, tmp_path / "store", SMALL, seeds=(1, 2), judged=judged)
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("| method | image AUROC | P-AP | AUPRO | missed |")
    assert [line.split(" | ")[0] for line in rows] == [f"| {name}" for name in METHODS]
    for line in rows:
        cells = [cell.split(" ±") for cell in line.split(" | ")[1:5]]
        assert all(0 <= float(mean) <= 1 and 0 <= float(spread) <= 1 for mean, spread in cells)
    assert torch.float32 in types.seen
    assert torch.cuda.is_available() or torch.bfloat16 not in types.seen


def test_patchcore_takes_its_own_levels(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--levels"):
        run(tmp_path, ["patchcore"], tmp_path / "store", replace(SMALL, levels=(4, 8)))


def test_patchcores_score_falls_where_its_neighbours_are_as_far() -> None:
    levels = [torch.randn(2, 16, 3), torch.randn(2, 4, 5)]
    model = PatchCore([levels], seed=0)
    model.memory = tokens(levels)[0, :1].expand(4, -1) + torch.tensor([[0.0], [1e-6], [2e-6], [3e-6]])
    maps, scores = model.judge([levels[0][:1], levels[1][:1]], 64)
    assert maps.shape == (1, 256, 256)
    farthest = (tokens(levels)[0] - model.memory[0]).norm(dim=1).max()
    assert scores.item() == pytest.approx(float(farthest) * (1 - 1 / 4), rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_spoilt_is_seen_where_the_mask_is_and_nowhere_else(kind: str) -> None:
    rng = np.random.default_rng(3)
    image, other = (Image.fromarray(rng.integers(60, 190, (80, 60, 3), np.uint8)) for _ in range(2))
    changed, mask = spoil(kind, image, other, np.random.default_rng(5))
    again, _ = spoil(kind, image, other, np.random.default_rng(5))
    assert (changed.size, mask.shape) == (image.size, (80, 60))
    assert changed.tobytes() == again.tobytes()
    difference = np.abs(np.asarray(changed, float) - np.asarray(image, float)).max(axis=-1)
    assert difference[mask].max() > 10
    assert difference[~mask].max() <= 10
    assert 0 < mask.mean() < 0.5


def test_settings_of_a_method_may_be_lists_and_tables() -> None:
    glcf = read_method("glcf:scale_weights=[1, 2],epochs=3").own
    assert (glcf.scale_weights, glcf.epochs) == ((1.0, 2.0), 3)
    memory = read_method("inp_former:memory={grid: 8, tokens: 9},epochs=3").own.memory
    assert (memory.grid, memory.tokens) == (8, 9)


@pytest.mark.parametrize("text", ["patchcore", "nearest:neighbours=0", "nearest:shape=1", "nearest:neighbours=many"])
def test_a_method_that_there_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        read_method(text)


@pytest.mark.parametrize("name", ["epoch", "metadata", "scaling", "tuning"])
def test_what_other_benchmarks_import_is_there(name: str) -> None:
    assert import_module(f"benchmarks.{name}.measure").run
