"""What becomes of a picture besides its score: the score across folds, and whether it shows its category at all."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

FAR = 1.5  # times as far from the good pictures as the farthest of these: then a picture is doubted
LOOKS = "plausibility.safetensors"


def image_score(anomaly_map: np.ndarray) -> float:
    """The mean of its highest 1 %."""
    top = np.sort(anomaly_map, axis=None)[-(anomaly_map.size // 100) :]
    return float(min(top.mean(), top[-1]))


def cross_score(limits: dict[str, Any], own: dict[int, float]) -> float:
    """Above the threshold exactly where at most `allowed` held-out scores reach what the model of their fold gives."""
    cross, threshold = limits["cross"], np.float32(limits["threshold"])
    above = np.sort([own[fold] for fold in cross["folds"]] - np.array(limits["scores"]))[cross["allowed"]]
    score = np.float32(limits["threshold"] + above)
    return float(max(score, np.nextafter(threshold, np.float32(np.inf))) if above > 0 else score)


def doubt_of(folder: Path, files: dict[str, str], groups: list[np.ndarray], category: str) -> dict[str, Any] | None:
    """Why a picture, of what the encoder made these `groups` [1, N, C], is not taken for one of its category."""
    known = _looks(folder / LOOKS) if LOOKS in files else {}
    if category not in known:
        return None
    look = np.concatenate([half for group in groups for half in (group[0].mean(axis=0), group[0].std(axis=0))])
    times = {name: float(np.linalg.norm(own - look, axis=1).min() / far) for name, (own, far) in known.items()}
    if not times[category] > FAR:
        return None
    others = {name: value for name, value in times.items() if name != category and value <= FAR}
    return {"times": times[category], "likelier": min(others, key=others.__getitem__, default=None)}


@lru_cache(maxsize=1)
def _looks(file: Path) -> dict[str, tuple[np.ndarray, float]]:
    """The good pictures of each category, and how far the farthest of them is from its nearest other."""
    content = file.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    found = {}
    for name, one in json.loads(content[8:begin]).items():
        own = np.frombuffer(content[begin:], np.float32)[slice(*(at // 4 for at in one["data_offsets"]))]
        looks = own.reshape(one["shape"])
        found[name.removeprefix("look:")] = looks, _farthest(looks)
    return found


def _farthest(looks: np.ndarray) -> float:
    nearest = [np.linalg.norm(np.delete(looks, n, axis=0) - own, axis=1).min() for n, own in enumerate(looks)]
    rounding = 1e-6 * np.linalg.norm(looks, axis=1).max()
    return float(max(*nearest, rounding, np.finfo(np.float32).tiny))
