"""Our GRNR against the numbers that the reference produced, and that the comparison can fail."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy import ndimage

from tests.golden.check import compare, main
from tests.methods.grnr import brute

GOLDEN = Path(__file__).with_name("golden.safetensors")
LEVELS = ("layer2", "layer3")
NAMES = [f"{level}/{n}" for level in LEVELS for n in ("global_index", "score_grid", "upsampled", "map")]


def changed(folder: Path, **tensors: torch.Tensor) -> Path:
    with safe_open(GOLDEN, framework="pt") as f:
        save_file(load_file(GOLDEN) | tensors, folder / "changed.safetensors", f.metadata())
    return folder / "changed.safetensors"


def run(file: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "argv", ["golden", str(file)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def test_we_are_the_reference() -> None:
    rows = compare(GOLDEN)
    assert [row.name for row in rows] == [*NAMES, "anomaly_map"]
    assert [row for row in rows if not row.held] == []
    assert [row.allowed for row in rows] == [0.0, 1e-5, 1e-5, 1e-5] * 2 + [1e-5]


def test_sizes_and_settings_are_read_from_the_file(tmp_path: Path) -> None:
    """A file made by brute force, with every number different from the reference's."""
    rng, size, crop, sigma = np.random.default_rng(0), 60, 9, 2.0
    config = {"image_size": size, "channels": [12, 20], "n_global": 7, "lam": 0.5}
    border = {"layer2": 2, "layer3": 1}
    tensors, product = {}, np.ones(())
    for (level, cells), channels, side in zip(border.items(), config["channels"], (10, 5), strict=True):
        features = rng.normal(1, 1, (side, side, channels)).astype(np.float32)
        noise = rng.uniform(0, 1e-3, (side**2, channels, 9)).astype(np.float32)
        grid = brute.mean_of_nine(features.astype(np.float64))
        eight = np.delete(noise.astype(np.float64), 4, axis=2).transpose(0, 2, 1)
        scores = brute.scores(grid, 7, 0.5, brute.mirrored(side), eight)
        kept = scores[cells:-cells, cells:-cells]
        filled = torch.from_numpy(np.pad(kept, cells, constant_values=kept.min()))[None, None]
        upsampled = F.interpolate(filled, (size, size), mode="bilinear", align_corners=False)[0, 0].numpy()
        one = ndimage.gaussian_filter(upsampled, sigma)[crop:-crop, crop:-crop]
        product = product * one
        found = {
            "features": features.transpose(2, 0, 1)[None],
            "neighbour_noise": noise,
            "global_index": np.array(brute.support(grid.reshape(side**2, -1), 7)),
            "score_grid": scores.astype(np.float32),
            "upsampled": upsampled.astype(np.float32),
            "map": one.astype(np.float32),
        }
        tensors |= {f"{level}/{name}": torch.from_numpy(np.ascontiguousarray(value)) for name, value in found.items()}
    tensors["anomaly_map"] = torch.from_numpy(product.astype(np.float32))
    meta = {"method": "GRNR", "config": json.dumps(config), "border": json.dumps(border)}
    save_file(tensors, tmp_path / "other.safetensors", meta | {"crop": str(crop), "gauss_sigma": str(sigma)})
    rows = compare(tmp_path / "other.safetensors")
    assert [row.name for row in rows] == [*NAMES, "anomaly_map"]
    assert [row for row in rows if not row.held] == []


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("layer3/score_grid", {"layer3/score_grid"}),
        ("layer2/map", {"layer2/map"}),
        ("anomaly_map", {"anomaly_map"}),
        ("layer2/neighbour_noise", {"layer2/score_grid", "layer2/upsampled", "layer2/map", "anomaly_map"}),
    ],
)
def test_one_changed_tensor_is_noticed(
    key: str, wrong: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tensor = load_file(GOLDEN)[key]
    assert run(changed(tmp_path, **{key: tensor * 1.01 + 1e-2}), monkeypatch) == 1
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line.endswith("TOO LARGE")} == wrong


def test_a_feature_too_many_in_the_support_is_noticed(tmp_path: Path) -> None:
    index = load_file(GOLDEN)["layer2/global_index"]
    index[0] = next(n for n in range(256) if n not in index)
    assert [row.name for row in compare(changed(tmp_path, **{"layer2/global_index": index})) if not row.held] == [
        "layer2/global_index"
    ]


@pytest.mark.parametrize(
    ("meta", "tensors"),
    [
        ({"method": "PNPT"}, {}),
        ({"method": "GRNR"}, {}),
        ({}, {"a": torch.zeros(1)}),
        ({"method": "../../../x"}, {"a": torch.zeros(1)}),
    ],
)
def test_a_file_of_another_form_ends_with_a_sentence(
    meta: dict[str, str], tensors: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(tensors, tmp_path / "odd.safetensors", meta)
    assert str(run(tmp_path / "odd.safetensors", monkeypatch)).startswith("error: ")
    (tmp_path / "text.safetensors").write_text("no tensors")
    assert str(run(tmp_path / "text.safetensors", monkeypatch)).startswith("error: ")
