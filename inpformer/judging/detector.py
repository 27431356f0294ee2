"""The detector: encoder, trained part and thresholds as one thing that is saved, loaded and asked.

On disk it is a folder: `model.safetensors` (the trained part), `detector.json` (what it is), `calibration.json` (its
thresholds), `plausibility.safetensors` (what good pictures look like, where calibration had enough of them),
`challenge.safetensors` (good pictures and their scores) and, where that is known, `seen.safetensors` (which images it
was trained on). The encoder's weights are not in it: they are named by digest and checked.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load as load_tensors
from safetensors.torch import save
from torch import Tensor

from inpformer.backends.base import Backend
from inpformer.backends.graphs import write_graphs
from inpformer.backends.in_torch import InTorch
from inpformer.backends.names import TORCH, check_backend
from inpformer.backends.runtimes import InRuntime, check_runtime
from inpformer.config import build, require
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.encoders.shapes import EncoderShape
from inpformer.errors import UserError
from inpformer.images.frame import Frame
from inpformer.images.tiling import MAX_TILES, Tiling
from inpformer.images.views import views
from inpformer.judging.calibration import Threshold, Verdict
from inpformer.judging.challenge import CHALLENGE_FILE, Challenge, load_challenges, save_challenges
from inpformer.judging.learnt import ALL, LearntFrom
from inpformer.judging.plausibility import PLAUSIBILITY_FILE, Doubt, Look, Plausibility, look, reviewed
from inpformer.judging.regions import Region, find_regions
from inpformer.judging.seen import SeenImages
from inpformer.judging.stored import read_content, write_content
from inpformer.methods import find_method
from inpformer.methods.base import Model
from inpformer.methods.method import Method
from inpformer.methods.modes import ZERO_SHOT
from inpformer.nn.tensors import part_of, prefixed

T = TypeVar("T")
FORMAT_VERSION = 3
# Of several models: so many maps of views are held at a time, as many as an image has without folds.
MAPS_AT_A_TIME = MAX_TILES
MODEL_FILE, CONFIG_FILE, CALIBRATION_FILE = "model.safetensors", "detector.json", "calibration.json"
SEEN_FILE = "seen.safetensors"


@dataclass(frozen=True)
class DetectorConfig:
    """What detector.json holds. `settings` are the method's; `shape` is that of the encoder's levels; `models` the
    categories that have a model each, or ALL alone. `seen_sha256`, `plausibility_sha256` and `challenge_sha256` are of
    those files, null where there is none.
    `folds` says of how many folds each of them has a model, where it has one a fold; empty where it has one.
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
    folds: tuple[int, ...] = ()
    plausibility_sha256: str | None = None
    challenge_sha256: str | None = None

    def __post_init__(self) -> None:
        each = not self.folds or (len(self.folds) == len(self.models) and min(self.folds) >= 1)
        require(each, "folds", self.folds, f"empty, or a number for each of the {len(self.models)} models")


@dataclass(frozen=True)
class Prediction:
    """A score, a map and a look an image: `scores` [B] float32, `maps` B arrays [H, W] float32, 256×256 without tiles,
    higher is more anomalous; `looks` [B, D] float32 (see `inpformer.judging.plausibility`).
    """

    scores: NDArray[np.float32]
    maps: list[NDArray[np.float32]]
    looks: Look


@dataclass(frozen=True)
class Decision:
    """What becomes of one image (see `Threshold`), and the conformal p-value of its score. A PASS has no regions.
    `doubt` says that it may not be of the category at all: then it is a REVIEW at least.
    """

    decision: Verdict
    threshold: Threshold
    p_value: float
    regions: list[Region]
    doubt: Doubt | None = None


class Detector:
    """A model, or one a category, or one a fold of either, ready to judge images. Not trained here: see
    `inpformer.training`.
    """

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
        folds: Mapping[str, Sequence[Model]] | None = None,
    ) -> None:
        """`settings` are the method's; `models` holds one for ALL categories, or one a category; `seen` is None where
        nobody knows which images they were trained on. `folds` is instead of `models`, which then is empty: by the same
        names one model a fold, trained without it.
        """
        self.encoder = encoder
        self.method, self.settings = method, settings
        self.models = {category: self._ready(model) for category, model in models.items()}
        self.folds = {name: [self._ready(model) for model in own] for name, own in (folds or {}).items()}
        self.learnt_from = learnt_from
        self.thresholds = dict(thresholds)
        self.tiling = tiling
        self.seen = seen
        self.plausibility = Plausibility({})
        self.challenges: tuple[Challenge, ...] = ()
        self._wants = method.wants(settings, encoder.shape)
        self.backend: Backend = InTorch(encoder, self._wants, self._zero_shot)

    def _ready(self, model: Model) -> Model:
        return model.eval().to(self.encoder.device)

    @torch.inference_mode()
    def predict(self, images: Sequence[Image.Image], categories: Sequence[str]) -> Prediction:
        """Scores pictures of any size, as `open` gives them; `categories` names each one's. The one inference path of
        evaluation and serving: the setting that the detector was trained in decides how; nobody else can.

        Of models of folds, the score is what the category's threshold makes of all (see `CrossScores`), or that of
        their mean map where its threshold is not of folds; the mean map is lifted to the score.

        Raises UserError for a category without a model where each has its own.
        """
        if self.folds and images:
            return self._predict_across(images, categories)
        return self._predict_each(images, [self._of(self.models, category) for category in categories])

    @torch.inference_mode()
    def predict_left_out(
        self, images: Sequence[Image.Image], categories: Sequence[str], folds: Sequence[int]
    ) -> Prediction:
        """Scores each picture by the model of one fold: of that which it belongs to, if it was trained on."""
        models = [self._of(self.folds, category)[fold] for category, fold in zip(categories, folds, strict=True)]
        return self._predict_each(images, models)

    def _predict_each(self, images: Sequence[Image.Image], models: Sequence[Model]) -> Prediction:
        tiles, looks = self._tiles(images, [[model] for model in models])
        found = [self._whole(own, image, one) for (own,), image, one in zip(tiles, images, models, strict=True)]
        return Prediction(np.array([score for _, score in found], np.float32), [map_ for map_, _ in found], looks)

    def _predict_across(self, images: Sequence[Image.Image], categories: Sequence[str]) -> Prediction:
        limits = [self.thresholds.get(category) for category in categories]
        judging = [self._judging(category, one) for category, one in zip(categories, limits, strict=True)]
        found = []
        over_folds, looks = self._over_folds(images, judging)
        for image, models, one, (scores, tiles) in zip(images, judging, limits, over_folds, strict=True):
            anomaly_map, score = self._whole(tiles, image, next(iter(models.values())))
            if one is not None and one.cross is not None:
                own, score = score, one.cross.score(scores, one.scores, one.threshold)
                anomaly_map = lifted(anomaly_map, own, score)
            found.append((anomaly_map, score))
        return Prediction(np.array([score for _, score in found], np.float32), [map_ for map_, _ in found], looks)

    def _judging(self, category: str, limits: Threshold | None) -> dict[int, Model]:
        """The models that judge a category, by fold: those of its threshold, or all."""
        models = self._of(self.folds, category)
        folds = range(len(models)) if limits is None or limits.cross is None else limits.cross.models
        return {fold: models[fold] for fold in folds}

    def _over_folds(
        self, images: Sequence[Image.Image], judging: Sequence[Mapping[int, Model]]
    ) -> tuple[list[tuple[dict[int, float], list[Tensor]]], Look]:
        """For each image the score of each of its models, by fold, and the means of their maps, a view each; and the
        looks. All models judge what the encoder gave once, where their maps may be held together.
        """
        scores: list[dict[int, float]] = [{} for _ in images]
        sums: list[list[Tensor]] = [[] for _ in images]
        at_a_time = max(1, MAPS_AT_A_TIME // sum(len(views(i.size, self.tiling, augmented=False)) for i in images))
        for start in range(0, max(map(len, judging)), at_a_time):
            parts = [dict(list(models.items())[start : start + at_a_time]) for models in judging]
            tiles, looks = self._tiles(images, [list(part.values()) for part in parts])
            for n, part in enumerate(parts):
                for (fold, model), own in zip(part.items(), tiles[n], strict=True):
                    scores[n][fold] = self._whole(own, images[n], model)[1]
                    sums[n] = [a + b for a, b in zip(sums[n], own, strict=True)] if sums[n] else own
        means = [[total / len(models) for total in own] for own, models in zip(sums, judging, strict=True)]
        return list(zip(scores, means, strict=True)), looks

    def _tiles(
        self, images: Sequence[Image.Image], models: Sequence[Sequence[Model]]
    ) -> tuple[list[list[list[Tensor]]], Look]:
        """For each image and each of its models the maps [256, 256] of its views, on the CPU, and the looks of the
        images, the means of their views'. The encoder sees a view once.
        """
        seen = [(n, view) for n, image in enumerate(images) for view in views(image.size, self.tiling, augmented=False)]
        maps: list[list[list[Tensor]]] = [[[] for _ in own] for own in models]
        looks: list[list[Tensor]] = [[] for _ in images]
        for start in range(0, len(seen), self.backend.at_a_time):
            part = seen[start : start + self.backend.at_a_time]
            pictures = np.stack([view.picture(images[n], self.encoder.transform) for n, view in part])
            groups = self.backend.groups(torch.from_numpy(pictures))
            for (n, _), one in zip(part, look(groups).cpu(), strict=True):
                looks[n].append(one)
            for model in {model: None for n, _ in part for model in models[n]}:
                rows = [row for row, (n, _) in enumerate(part) if any(one is model for one in models[n])]
                found = self.backend.maps(model, [group[rows] for group in groups])
                for row, one in zip(rows, found, strict=True):
                    n = part[row][0]
                    place = next(place for place, other in enumerate(models[n]) if other is model)
                    maps[n][place].append(one)
        return maps, np.array([torch.stack(own).mean(dim=0).numpy() for own in looks], np.float32)

    def _whole(self, tiles: Sequence[Tensor], image: Image.Image, model: Model) -> tuple[NDArray[np.float32], float]:
        """The map and the score of an image from the maps of its views."""
        if self.tiling is None:
            (one,) = tiles
            return one.numpy(), float(model.scores(one[None]))
        return self.tiling.blend([tile.numpy() for tile in tiles], image.size, partial(_score, model))

    def _of(self, models: Mapping[str, T], category: str) -> T:
        if ALL in models:
            return models[ALL]
        if category not in models:
            known = ", ".join(sorted(models))
            raise UserError(f"category {category!r} has no model in this single-class detector: it knows {known}.")
        return models[category]

    def open(self, source: Path | bytes, name: str | None = None) -> Image.Image:
        """A picture from its file, or the content of one, for `predict`: of 16 bits a channel as this detector's were,
        by its own `white`. `name` is what messages call it. Raises what `open_image` raises.
        """
        return self.encoder.transform.open(source, name)

    def count_views(self, size: tuple[int, int]) -> int:
        """How many views the encoder sees of an image of `size` (width, height). Raises TooLargeError for too many."""
        return len(views(size, self.tiling, augmented=False))

    def frame(self, size: tuple[int, int]) -> Frame:
        """Where on an image of `size` (width, height) its map lies."""
        return self.encoder.transform.frame(size) if self.tiling is None else self.tiling.frame(size)

    def mask(self, mask: Image.Image) -> NDArray[np.bool_]:
        """A ground-truth mask, its size that of its image, in the shape of the image's map."""
        return self.encoder.transform.mask(mask) if self.tiling is None else self.tiling.mask(mask)

    def decide(
        self, score: float, anomaly_map: NDArray[np.float32], look: Look, size: tuple[int, int], category: str
    ) -> Decision:
        """Holds a predicted score against the category's thresholds, and a look [D] against those of its good pictures;
        `size` (width, height) is the image's.

        Raises UserError for an unknown category.
        """
        if category not in self.thresholds:
            known = ", ".join(sorted(self.thresholds)) or "none"
            raise UserError(f"category {category!r} is not one that this detector was calibrated for: {known}.")
        threshold = self.thresholds[category]
        decision, p_value = threshold.decide(score), threshold.p_value(score)
        doubt = self.plausibility.doubt(look, category)
        if decision == "PASS":
            return Decision(reviewed(decision, doubt is not None), threshold, p_value, [], doubt)
        limit = threshold.threshold if decision == "FAIL" else threshold.review_threshold
        return Decision(decision, threshold, p_value, find_regions(anomaly_map, limit, self.frame(size)), doubt)

    @property
    def unchecked(self) -> list[str]:
        """The categories of which too few good parts are known to doubt a picture."""
        return sorted(set(self.thresholds) - set(self.plausibility.looks))

    @property
    def names(self) -> list[str]:
        """Of the models, in the order in which they are stored."""
        return sorted(self.folds or self.models)

    @property
    def in_order(self) -> list[Model]:
        """All models, of folds too, in the order in which they are stored."""
        return [model for name in self.names for model in self.folds.get(name) or [self.models[name]]]

    @property
    def _zero_shot(self) -> bool:
        return self.learnt_from.setting == ZERO_SHOT

    def refuse_torch_only(self) -> None:
        """Raises UserError where nothing but PyTorch can compute the method's maps."""
        if reason := self.method.torch_only:
            raise UserError(f"{self.method.name} has no export, as {reason}: use the backend torch.")

    def write_graphs(self, folder: Path, bits: int = 32) -> list[Path]:
        """The networks as ONNX files in `folder`, see `inpformer.backends.graphs`. Raises UserError where that cannot
        be, and if they are not on the CPU.
        """
        self.refuse_torch_only()
        require(self.encoder.device.type == "cpu", "device", self.encoder.device.type, "cpu, to write ONNX files")
        return write_graphs(folder, self.encoder, self._wants, self.in_order, self._zero_shot, bits)

    def run_in(self, backend: str, graphs: Path | None = None, threads: int = 1, precision: int = 32) -> None:
        """Has another backend compute from now on, with files that `write_graphs` wrote, of that precision; where
        `graphs` is None, they are written now, in 32 bits, which takes ten seconds.

        Raises UserError for an unknown backend, one that is not installed, and for files that are missing or damaged.
        """
        if check_backend(backend) == TORCH:
            self.backend = InTorch(self.encoder, self._wants, self._zero_shot)
        elif graphs is not None:
            self.backend = InRuntime(backend, graphs, self.in_order, threads, precision)
        else:
            check_runtime(backend)
            with tempfile.TemporaryDirectory(prefix="inpformer-") as made:
                self.write_graphs(Path(made))
                self.backend = InRuntime(backend, Path(made), self.in_order, threads)

    def save(self, folder: Path) -> None:
        """Writes the files into `folder`, which it makes."""
        folder.mkdir(parents=True)
        tensors: dict[str, Tensor] = {}
        for number, model in enumerate(self.in_order):
            tensors |= prefixed(f"{number}:", model.tensors())
        config = DetectorConfig(
            FORMAT_VERSION,
            self.encoder.settings,
            self.encoder.digest,
            self.encoder.shape,
            self.tiling,
            self.method.name,
            asdict(self.settings),
            tuple(self.names),
            self.learnt_from,
            write_content(folder / MODEL_FILE, save(tensors)),
            None if self.seen is None else self.seen.save(folder / SEEN_FILE),
            tuple(len(self.folds[name]) for name in self.names if self.folds),
            self.plausibility.save(folder / PLAUSIBILITY_FILE) if self.plausibility.looks else None,
            save_challenges(self.challenges, folder / CHALLENGE_FILE) if self.challenges else None,
        )
        _write_json(folder / CONFIG_FILE, asdict(config))
        _write_json(folder / CALIBRATION_FILE, {c: asdict(t) for c, t in sorted(self.thresholds.items())})

    @classmethod
    def load(
        cls,
        folder: Path,
        encoder_weights: str | None = None,
        device: torch.device | str = "cpu",
        load: Callable[[EncoderSettings], Encoder] = load_encoder,
        backend: str = TORCH,
    ) -> "Detector":
        """Reads what `save` wrote. `encoder_weights` says where the encoder's weights lie on this machine, if
        not where they lay when it was trained; `load` makes the encoder, for weights that are not on this machine;
        `backend` computes (see `run_in`).

        Raises UserError naming the file if one is missing or damaged, if its format is another, if a shape does
        not fit, and if the encoder has not the digest that the model was trained with.
        """
        check_backend(backend)
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
        tensors = read_content(folder / MODEL_FILE, config.model_sha256, load_tensors)
        if encoder.shape != config.shape:
            raise UserError(f"{folder / CONFIG_FILE} wants features of another shape than {settings.name} gives.")
        method = find_method(config.method)
        own = build(method.settings, config.settings, f"{folder / CONFIG_FILE}: detector.settings")
        counts = config.folds or (1,) * len(config.models)
        numbers = iter(range(sum(counts)))
        made = {
            name: [_model(method, own, config.shape, tensors, next(numbers), folder) for _ in range(count)]
            for name, count in zip(config.models, counts, strict=True)
        }
        models = {} if config.folds else {name: model for name, (model,) in made.items()}
        folds = made if config.folds else {}
        _check_folds(thresholds, folds, folder)
        seen = None if config.seen_sha256 is None else SeenImages.load(folder / SEEN_FILE, config.seen_sha256)
        known = (config.learnt_from, thresholds, config.tiling, seen, folds)
        detector = cls(encoder.to(device), method, own, models, *known)
        if config.plausibility_sha256 is not None:
            detector.plausibility = Plausibility.load(folder / PLAUSIBILITY_FILE, config.plausibility_sha256)
        if config.challenge_sha256 is not None:
            detector.challenges = load_challenges(folder / CHALLENGE_FILE, config.challenge_sha256)
        detector.run_in(backend)
        return detector


def lifted(anomaly_map: NDArray[np.float32], own: float, score: float) -> NDArray[np.float32]:
    """The map whose own score is `own`, moved as a whole so that this becomes `score`. A score above the threshold then
    has a place on it: its largest value is at least the score.
    """
    moved = (anomaly_map + np.float64(score - own)).astype(np.float32)
    moved[moved == moved.max()] = max(moved.max(), np.float32(score))
    return moved


def _model(
    method: Method, settings: Any, shape: EncoderShape, tensors: Mapping[str, Tensor], number: int, folder: Path
) -> Model:
    model = method.make(settings, shape)
    model.load_tensors(part_of(tensors, f"{number}:"), str(folder / MODEL_FILE))
    return model


def _check_folds(thresholds: Mapping[str, Threshold], folds: Mapping[str, Sequence[Model]], folder: Path) -> None:
    """Raises UserError for a threshold of models that are not there."""
    for category, limits in thresholds.items():
        held = len(folds.get(ALL) or folds.get(category, ()))
        if limits.cross is not None and limits.cross.models[-1] >= held:
            raise UserError(
                f"{folder / CALIBRATION_FILE} has a threshold of {limits.cross.models[-1] + 1} folds for {category}, "
                f"but {MODEL_FILE} holds {held}: fetch or train the detector again."
            )


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
