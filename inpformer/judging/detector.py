"""The detector: encoder, trained part and thresholds as one thing that is saved, loaded and asked.

On disk it is a folder: `model.safetensors` (the trained part), `detector.json` (what it is), `calibration.json` (its
thresholds) and, where that is known, `seen.safetensors` (which images it was trained on). The encoder's weights are not
in it: they are named by digest and checked.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save
from torch import Tensor

from inpformer.config import build
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.encoders.shapes import EncoderShape
from inpformer.errors import UserError
from inpformer.images.frame import MAP_SIZE, Frame
from inpformer.images.tiling import Tiling
from inpformer.images.views import views
from inpformer.judging.calibration import Threshold, Verdict
from inpformer.judging.learnt import ALL, LearntFrom
from inpformer.judging.regions import Region, find_regions
from inpformer.judging.seen import SeenImages
from inpformer.methods import find_method
from inpformer.methods.base import Groups, Model
from inpformer.methods.method import Method
from inpformer.methods.modes import ZERO_SHOT
from inpformer.nn.tensors import part_of, prefixed

FORMAT_VERSION = 3
MODEL_FILE, CONFIG_FILE, CALIBRATION_FILE = "model.safetensors", "detector.json", "calibration.json"
SEEN_FILE = "seen.safetensors"
VIEWS_AT_A_TIME = 16


@dataclass(frozen=True)
class DetectorConfig:
    """What detector.json holds. `settings` are the method's; `shape` is that of the encoder's levels; `models` the
    categories that have a model each, or ALL alone. `seen_sha256` is of seen.safetensors, null where there is none.
    """

    format_version: int
    encoder: EncoderSettings
    encoder_digest: str
    shape: EncoderShape
    tiling: Tiling | None
    method: str
    settings: dict[str, Any]
    models: tuple[str, ...]
    learnt_from: LearntFrom
    model_sha256: str
    seen_sha256: str | None = None


@dataclass(frozen=True)
class Prediction:
    """A score and a map an image: `scores` [B] float32, `maps` B arrays [H, W] float32, 256×256 without tiles.
    Higher is more anomalous.
    """

    scores: NDArray[np.float32]
    maps: list[NDArray[np.float32]]


@dataclass(frozen=True)
class Decision:
    """What becomes of one image (see `Threshold`), and the conformal p-value of its score. A PASS has no regions."""

    decision: Verdict
    threshold: Threshold
    p_value: float
    regions: list[Region]


class Detector:
    """A model, or one a category, ready to judge images. Not trained here: see `inpformer.training`."""

    def __init__(
        self,
        encoder: Encoder,
        method: Method,
        settings: Any,
        models: Mapping[str, Model],
        learnt_from: LearntFrom,
        thresholds: Mapping[str, Threshold],
        tiling: Tiling | None = None,
        seen: SeenImages | None = None,
    ) -> None:
        """`settings` are the method's; `models` holds one for ALL categories, or one a category; `seen` is None where
        nobody knows which images they were trained on.
        """
        self.encoder = encoder
        self.method, self.settings = method, settings
        self.models = {category: model.eval().to(encoder.device) for category, model in models.items()}
        self.learnt_from = learnt_from
        self.thresholds = dict(thresholds)
        self.tiling = tiling
        self.seen = seen
        self._wants = method.wants(settings, encoder.shape)

    @torch.inference_mode()
    def predict(self, images: Sequence[Image.Image], categories: Sequence[str]) -> Prediction:
        """Scores pictures of any size, `categories` naming each one's: the one inference path of evaluation and
        serving. The setting that the detector was trained in decides how; nobody else can.

        Raises UserError for a category without a model where each has its own.
        """
        models = [self._model(category) for category in categories]
        seen = [(n, view) for n, image in enumerate(images) for view in views(image.size, self.tiling, augmented=False)]
        maps: list[Tensor] = []
        for start in range(0, len(seen), VIEWS_AT_A_TIME):
            part = seen[start : start + VIEWS_AT_A_TIME]
            pixels = torch.stack([view.pixels(images[n], self.encoder.transform) for n, view in part])
            groups = self._wants.of(self.encoder.features(pixels))
            maps += self._maps(groups, [models[n] for n, _ in part])
        if self.tiling is None:
            scores = [float(model.scores(one[None])) for model, one in zip(models, maps, strict=True)]
            return Prediction(np.array(scores, np.float32), [one.numpy() for one in maps])
        tiles: list[list[NDArray[np.float32]]] = [[] for _ in images]
        for (n, _), tile in zip(seen, maps, strict=True):
            tiles[n].append(tile.numpy())
        blended = [
            self.tiling.blend(t, image.size, partial(_score, model))
            for t, image, model in zip(tiles, images, models, strict=True)
        ]
        return Prediction(np.array([score for _, score in blended], np.float32), [map_ for map_, _ in blended])

    def _maps(self, groups: Groups, models: Sequence[Model]) -> list[Tensor]:
        """Groups, each [B, N, C], to B maps [256, 256] on the CPU, each by its own model."""
        maps = torch.empty(len(models), MAP_SIZE, MAP_SIZE)
        zero_shot = self.learnt_from.setting == ZERO_SHOT
        for model in set(models):
            rows = [n for n, one in enumerate(models) if one is model]
            mine = [group[rows] for group in groups]
            maps[rows] = model.maps(mine, self.encoder.transform.crop, zero_shot).cpu()
        return list(maps)

    def _model(self, category: str) -> Model:
        if ALL in self.models:
            return self.models[ALL]
        if category not in self.models:
            known = ", ".join(sorted(self.models))
            raise UserError(f"category {category!r} has no model in this single-class detector: it knows {known}.")
        return self.models[category]

    def frame(self, size: tuple[int, int]) -> Frame:
        """Where on an image of `size` (width, height) its map lies."""
        return self.encoder.transform.frame(size) if self.tiling is None else self.tiling.frame(size)

    def mask(self, mask: Image.Image) -> NDArray[np.bool_]:
        """A ground-truth mask, its size that of its image, in the shape of the image's map."""
        return self.encoder.transform.mask(mask) if self.tiling is None else self.tiling.mask(mask)

    def decide(self, score: float, anomaly_map: NDArray[np.float32], size: tuple[int, int], category: str) -> Decision:
        """Holds a predicted score against the category's thresholds; `size` (width, height) is the image's.

        Raises UserError for an unknown category.
        """
        if category not in self.thresholds:
            known = ", ".join(sorted(self.thresholds)) or "none"
            raise UserError(f"category {category!r} is not one that this detector was calibrated for: {known}.")
        threshold = self.thresholds[category]
        decision, p_value = threshold.decide(score), threshold.p_value(score)
        if decision == "PASS":
            return Decision(decision, threshold, p_value, [])
        limit = threshold.threshold if decision == "FAIL" else threshold.review_threshold
        return Decision(decision, threshold, p_value, find_regions(anomaly_map, limit, self.frame(size)))

    def save(self, folder: Path) -> None:
        """Writes the files into `folder`, which it makes."""
        folder.mkdir(parents=True)
        tensors: dict[str, Tensor] = {}
        for number, category in enumerate(sorted(self.models)):
            tensors |= prefixed(f"{number}:", self.models[category].tensors())
        content = save(tensors)
        config = DetectorConfig(
            FORMAT_VERSION,
            self.encoder.settings,
            self.encoder.digest,
            self.encoder.shape,
            self.tiling,
            self.method.name,
            asdict(self.settings),
            tuple(sorted(self.models)),
            self.learnt_from,
            hashlib.sha256(content).hexdigest(),
            None if self.seen is None else self.seen.save(folder / SEEN_FILE),
        )
        (folder / MODEL_FILE).write_bytes(content)
        _write_json(folder / CONFIG_FILE, asdict(config))
        _write_json(folder / CALIBRATION_FILE, {c: asdict(t) for c, t in sorted(self.thresholds.items())})

    @classmethod
    def load(
        cls,
        folder: Path,
        encoder_weights: str | None = None,
        device: torch.device | str = "cpu",
        load: Callable[[EncoderSettings], Encoder] = load_encoder,
    ) -> "Detector":
        """Reads what `save` wrote. `encoder_weights` says where the encoder's weights lie on this machine, if
        not where they lay when it was trained; `load` makes the encoder, for weights that are not on this machine.

        Raises UserError naming the file if one is missing or damaged, if its format is another, if a shape does
        not fit, and if the encoder has not the digest that the model was trained with.
        """
        config = _read_config(folder / CONFIG_FILE)
        calibration = _read_json(folder / CALIBRATION_FILE)
        thresholds = {c: build(Threshold, t, f"{folder / CALIBRATION_FILE}: {c}") for c, t in calibration.items()}
        settings = config.encoder if encoder_weights is None else replace(config.encoder, weights=encoder_weights)
        encoder = load(settings)
        if encoder.digest != config.encoder_digest:
            raise UserError(
                f"{folder / CONFIG_FILE} wants the encoder {config.encoder_digest[:12]}, but {settings.name} from "
                f"{settings.weights} is {encoder.digest[:12]}: give the weights that it was trained with."
            )
        tensors = _read_tensors(folder / MODEL_FILE, config.model_sha256)
        if encoder.shape != config.shape:
            raise UserError(f"{folder / CONFIG_FILE} wants features of another shape than {settings.name} gives.")
        method = find_method(config.method)
        own = build(method.settings, config.settings, f"{folder / CONFIG_FILE}: detector.settings")
        models = {category: method.make(own, config.shape) for category in config.models}
        for number, category in enumerate(config.models):
            models[category].load_tensors(part_of(tensors, f"{number}:"), str(folder / MODEL_FILE))
        seen = None if config.seen_sha256 is None else SeenImages.load(folder / SEEN_FILE, config.seen_sha256)
        return cls(encoder.to(device), method, own, models, config.learnt_from, thresholds, config.tiling, seen)


def _score(model: Model, anomaly_map: NDArray[np.float32]) -> float:
    return float(model.scores(torch.from_numpy(np.ascontiguousarray(anomaly_map))[None]))


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
        return load_tensors(content)
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
