"""How equal two detectors are that should be one."""

import json
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import torch
from safetensors.torch import load_file

from inpformer.digests import folder_digest
from inpformer.judging.detector import CALIBRATION_FILE, MODEL_FILE
from inpformer.judging.plausibility import PLAUSIBILITY_FILE

# Of a threshold. Another order of summation changes a weight's last digits, and the optimiser, whose steps are of one
# size, makes more of it where gradients are near zero: small tensors tell nothing, what all of them add up to does.
ROUNDING = 0.01


@dataclass(frozen=True)
class Difference:
    """Of `again` from `first`: whether the folders are equal byte for byte; the largest difference of a tensor, of its
    largest value, and which tensor that is; the largest of a threshold, of its value, or of the looks of good pictures.
    """

    equal: bool
    tensors: float = 0.0
    tensor: str = ""
    thresholds: float = 0.0

    @property
    def rounding(self) -> bool:
        """Whether it is no larger than rounding makes it: the same tensors, and limits that hardly moved."""
        return isfinite(self.tensors) and self.thresholds <= ROUNDING


def difference(first: Path, again: Path) -> Difference:
    """Of two detector folders. Tensors of other names or shapes differ infinitely."""
    if folder_digest(first) == folder_digest(again):
        return Difference(True)
    one, other = load_file(first / MODEL_FILE), load_file(again / MODEL_FILE)
    away = {name: _away(one.get(name), other.get(name)) for name in one | other}
    worst = max(away, key=away.__getitem__, default="")  # a method that learns nothing has no tensors
    limits = [json.loads((folder / CALIBRATION_FILE).read_text()) for folder in (first, again)]
    categories = limits[0] | limits[1]
    moved = [_moved(limits[0].get(name), limits[1].get(name)) for name in categories]
    looks = [load_file(file) if (file := folder / PLAUSIBILITY_FILE).exists() else {} for folder in (first, again)]
    moved += [_away(looks[0].get(name), looks[1].get(name)) for name in looks[0] | looks[1]]
    return Difference(False, away.get(worst, 0.0), worst, max(moved, default=0.0))


def _away(one: torch.Tensor | None, other: torch.Tensor | None) -> float:
    if one is None or other is None or one.shape != other.shape:
        return float("inf")
    if not one.numel():
        return 0.0
    one, other = one.double(), other.double()
    return float((one - other).abs().max() / one.abs().max().clamp(min=1e-12))


def _moved(one: dict[str, float] | None, other: dict[str, float] | None) -> float:
    if one is None or other is None:
        return float("inf")
    return abs(one["threshold"] - other["threshold"]) / max(abs(one["threshold"]), 1e-12)
