"""Judges a picture by the detector in this folder: `python run.py IMAGE [--category NAME]` prints its decision as JSON.

Needs numpy and the runtime that export.json names. With a camera's pixels: `Inspector(folder).judge(pixels, category)`.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from deciding import cross_score, doubt_of, image_score
from picture import eight_bits, read_picture, resize
from runtime import load

KEYS = "format_version", "tiling", "files", "backend", "thresholds", "models", "resize", "crop", "white"


class Inspector:
    """An exported detector. Raises ValueError or OSError if it is damaged; a model is read when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        try:
            self.config = json.loads((self.folder / "export.json").read_text())
            version, tiling, files, *_ = (self.config[key] for key in KEYS)
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{self.folder / 'export.json'} is damaged ({error!r}): copy the folder again") from None
        if version != 1 or tiling is not None:
            raise ValueError("run.py judges whole pictures by exports of format 1: judge tiles by the service instead")
        for name, sha256 in files.items():
            if hashlib.sha256((self.folder / name).read_bytes()).hexdigest() != sha256:
                raise ValueError(f"{self.folder / name} is not the file that was exported: copy the folder again")

    def judge(self, pixels: np.ndarray, category: str) -> dict[str, Any]:
        """What the command prints of a picture's colours, uint8 or uint16 [H, W, 3], and its `map` [256, 256]."""
        backend, known, models, size, crop, white = (self.config[key] for key in KEYS[3:])
        if category not in known:
            raise ValueError(f"category {category} is not one of {', '.join(sorted(known))}: name one of these")
        limits, numbers, start = known[category], models.get("") or models[category], round((size - crop) / 2)
        seen = resize(eight_bits(pixels, white), size)[None, start : start + crop, start : start + crop]
        encoded = load(self.folder / "encoder.onnx", backend)({"pixels": seen})
        groups = {f"group_{number}": group for number, group in enumerate(encoded)}
        folds = sorted(set(limits["cross"]["folds"])) if limits["cross"] else range(len(numbers))
        found = {fold: load(self.folder / f"model_{numbers[fold]}.onnx", backend)(groups) for fold in folds}
        own = {fold: float(scores[0]) for fold, (_, scores) in found.items()}
        anomaly_map = np.mean([maps[0] for maps, _ in found.values()], axis=0)
        score = own[folds[0]] if len(own) == 1 else image_score(anomaly_map)
        if limits["cross"]:
            lifted = cross_score(limits, own)
            anomaly_map, score = anomaly_map + (lifted - score), lifted
        if not np.isfinite([score, *own.values()]).all():
            raise ValueError(f"the scores {list(own.values())} are not all finite numbers: the model is broken")
        doubt = doubt_of(self.folder, self.config["files"], encoded, category)
        usual = score <= limits["review_threshold"] and doubt is None
        return {
            "category": category,
            "decision": "FAIL" if score > limits["threshold"] else "PASS" if usual else "REVIEW",
            "doubt": doubt,
            "score": score,
            "threshold": limits["threshold"],
            "review_threshold": limits["review_threshold"],
            "map": anomaly_map,
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path, help="a PNG, BMP, PPM, PGM or .npy")
    parser.add_argument("--category", help="may be left out where the detector knows one")
    given = parser.parse_args()
    try:
        inspector = Inspector(Path(__file__).parent)
        known = list(inspector.config["thresholds"])
        category = known[0] if given.category is None and len(known) == 1 else given.category
        verdict = inspector.judge(read_picture(given.image), category)
    except Exception as error:  # the runtimes have their own
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None
    print(json.dumps({key: value for key, value in verdict.items() if key != "map"}))
