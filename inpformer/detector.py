"""The detector: encoder, trained part and thresholds as one thing that is saved, loaded and asked.

On disk it is a folder of three files: `model.safetensors` (the trained part), `detector.json` (what it is) and
`calibration.json` (its thresholds). The encoder's weights are not in it: they are named by digest and checked.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from inpformer.calibration import Threshold
from inpformer.encoder import Encoder, EncoderSettings, load_encoder
from inpformer.errors import UserError
from inpformer.losses import LossSettings
from inpformer.model import INPFormer, ModelShape
from inpformer.projection import Projection
from inpformer.regions import Region, find_regions
from inpformer.scoring import image_scores, reconstruction_map, zero_shot_map
from inpformer.settings import build, require

FORMAT_VERSION = 1
MODEL_FILE, CONFIG_FILE, CALIBRATION_FILE = "model.safetensors", "detector.json", "calibration.json"


@dataclass(frozen=True)
class DetectorConfig:
    """What detector.json holds. `scoring` is "reconstruction" or "zero-shot"; `encoder_channels` are the
    encoder's own, before the projection.
    """

    format_version: int
    encoder: EncoderSettings
    encoder_digest: str
    encoder_channels: int
    model: ModelShape
    losses: LossSettings
    scoring: str
    model_sha256: str

    def __post_init__(self) -> None:
        require(self.scoring in ("reconstruction", "zero-shot"), "scoring", self.scoring, "reconstruction or zero-shot")


@dataclass(frozen=True)
class Prediction:
    """`scores` [B] and `maps` [B, 256, 256], float32: higher is more anomalous."""

    scores: NDArray[np.float32]
    maps: NDArray[np.float32]


@dataclass(frozen=True)
class Decision:
    """What becomes of one image: `decision` is "FAIL" if its score is above the category's threshold, else "PASS".
    Only a FAIL has regions.
    """

    decision: str
    threshold: float
    regions: list[Region]


class Detector:
    """An INP-Former ready to judge images. Not trained here: see `inpformer.training`."""

    def __init__(
        self,
        encoder: Encoder,
        projection: Projection | None,
        model: INPFormer,
        losses: LossSettings,
        thresholds: Mapping[str, Threshold],
        scoring: str = "reconstruction",
    ) -> None:
        self.encoder = encoder
        self.projection = projection.eval().to(encoder.device) if projection is not None else None
        self.model = model.eval().to(encoder.device)
        self.losses = losses
        self.thresholds = dict(thresholds)
        self.scoring = scoring

    @torch.inference_mode()
    def predict(self, images: Sequence[Image.Image]) -> Prediction:
        """Scores pictures of any size, all in one batch: the one inference path of evaluation and serving."""
        features = self.encoder.encode(list(images))
        target = self.projection(features) if self.projection is not None else features
        size = self.encoder.transform.crop
        if self.scoring == "zero-shot":
            fused = target.mean(dim=1)
            maps = zero_shot_map(fused, self.model.prototypes(fused), size)
        else:
            maps = reconstruction_map(self.model(target), size)
        return Prediction(image_scores(maps).cpu().numpy(), maps.cpu().numpy())

    def decide(self, image: Image.Image, score: float, anomaly_map: NDArray[np.float32], category: str) -> Decision:
        """Holds a predicted score against the category's threshold. Raises UserError for an unknown category."""
        if category not in self.thresholds:
            known = ", ".join(sorted(self.thresholds))
            raise UserError(f"category {category!r} is not one that this detector was calibrated for: {known}.")
        threshold = self.thresholds[category].threshold
        if score <= threshold:
            return Decision("PASS", threshold, [])
        regions = find_regions(anomaly_map, threshold, image, self.encoder.transform)
        return Decision("FAIL", threshold, regions)

    def save(self, folder: Path) -> None:
        """Writes the three files into `folder`, which it makes."""
        folder.mkdir(parents=True)
        tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        if self.projection is not None:
            tensors |= {f"projection.{k}": v for k, v in self.projection.state_dict().items()}
        content = save({k: v.contiguous().cpu() for k, v in tensors.items()})
        (folder / MODEL_FILE).write_bytes(content)
        config = DetectorConfig(
            FORMAT_VERSION,
            self.encoder.settings,
            self.encoder.digest,
            self.encoder.channels,
            self.model.shape,
            self.losses,
            self.scoring,
            hashlib.sha256(content).hexdigest(),
        )
        _write_json(folder / CONFIG_FILE, asdict(config))
        _write_json(folder / CALIBRATION_FILE, {c: asdict(t) for c, t in sorted(self.thresholds.items())})

    @classmethod
    def load(cls, folder: Path, encoder_weights: str | None = None, device: torch.device | str = "cpu") -> "Detector":
        """Reads what `save` wrote. `encoder_weights` says where the encoder's weights lie on this machine, if
        not where they lay when it was trained.

        Raises UserError naming the file if one is missing or damaged, if its format is another, if a shape does
        not fit, and if the encoder has not the digest that the model was trained with.
        """
        config = _read_config(folder / CONFIG_FILE)
        calibration = _read_json(folder / CALIBRATION_FILE)
        thresholds = {c: build(Threshold, t, f"{folder / CALIBRATION_FILE}: {c}") for c, t in calibration.items()}
        settings = config.encoder if encoder_weights is None else replace(config.encoder, weights=encoder_weights)
        encoder = load_encoder(settings)
        if encoder.digest != config.encoder_digest:
            raise UserError(
                f"{folder / CONFIG_FILE} wants the encoder {config.encoder_digest[:12]}, but {settings.name} from "
                f"{settings.weights} is {encoder.digest[:12]}: give the weights that it was trained with."
            )
        tensors = _read_tensors(folder / MODEL_FILE, config.model_sha256)
        model = INPFormer(config.model)
        projected = any(name.startswith("projection.") for name in tensors)
        projection = Projection(config.encoder_channels, config.model.channels) if projected else None
        for prefix, part in (("model.", model), ("projection.", projection)):
            if part is not None:
                state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
                _load_state(part, state, folder / MODEL_FILE)
        return cls(encoder.to(device), projection, model, config.losses, thresholds, config.scoring)


def _load_state(part: torch.nn.Module, state: Mapping[str, Tensor], file: Path) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in part.state_dict().items()}
    held = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if wanted != held:
        name = sorted(set(wanted.items()) ^ set(held.items()))[0][0]
        raise UserError(f"{file}: {name} does not fit {CONFIG_FILE}: the two files are not of one detector.")
    part.load_state_dict(state)


def _read_config(file: Path) -> DetectorConfig:
    values = _read_json(file)
    if (version := values.get("format_version")) != FORMAT_VERSION:
        raise UserError(
            f"{file} has the format_version {version!r}, this program reads {FORMAT_VERSION}: "
            "use the program that wrote it, or train the detector again."
        )
    return build(DetectorConfig, values, f"{file}: detector")


def _read_tensors(file: Path, sha256: str) -> dict[str, Tensor]:
    try:
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(f"{file} has another sha256 than {CONFIG_FILE} says: fetch or train the detector again.")
        return load(content)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read ({error}): fetch or train the detector again.") from None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): fetch or train the detector again.") from None
    if not isinstance(values, dict):
        raise UserError(f"{file} is not a table: fetch or train the detector again.")
    return values


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n")
