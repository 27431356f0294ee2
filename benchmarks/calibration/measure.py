"""The promises by formula, and by simulation what becomes of them; the time of a judgement by the clock."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from inpformer.devices import best_device, device_name
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.judging.calibration import calibrate, calibrate_across, false_alarm_bound, images_needed
from inpformer.judging.cross import bound, equal_folds, keeps
from inpformer.judging.detector import MODEL_FILE, Detector
from inpformer.judging.learnt import ALL, LearntFrom
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods import METHODS
from inpformer.methods.base import Fit, Model
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.methods.method import Method
from inpformer.methods.nearest.settings import NearestSettings

PARTS, FOLDS, COUNTS = (20, 40, 60, 100), (5, 10), (1, 5, 10, 20, 60)
RATES = (0.05, 0.1)
VAL_FRACTION = 0.2
DRAWS, DIMENSIONS, SHIFT = 4000, 8, 4.0
NOISE_IMAGES = 64


def promises() -> list[str]:
    """A row a number of parts: the lowest rate that each way can promise."""
    rows = ["| good parts | split, .2 held out | split, half held out | K = 5 | K = 10 | K = n |", "|---" * 6 + "|"]
    for parts in PARTS:
        split = [f"{false_alarm_bound(held, held, None):.1%}" for held in (round(VAL_FRACTION * parts), parts // 2)]
        folds = [f"{bound(*equal_folds(parts, count), 0):.1%}" for count in (*FOLDS, parts)]
        rows.append(f"| {parts} | {' | '.join((*split, *folds))} |")
    return rows


def distances(train: NDArray[np.float64], judged: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each judged point's distance to the nearest training point."""
    return np.sqrt(np.square(judged[:, None] - train[None]).sum(-1).min(1))


def draws(parts: int) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The good parts of a calibration, and two new ones: a good one, and one that is shifted."""
    rng = np.random.default_rng(parts)
    for _ in range(DRAWS):
        points, new = rng.normal(size=(parts, DIMENSIONS)), rng.normal(size=(2, DIMENSIONS))
        new[1, 0] += SHIFT
        yield points, new


def split_alarms(parts: int, held: int, rate: float) -> list[NDArray[np.bool_]] | None:
    """Which of the new parts FAIL, draw by draw, with `held` parts held out; None where the rate cannot be promised."""
    if images_needed(rate, None) > held:
        return None
    settings = CalibrationSettings(rate)
    found = []
    for points, new in draws(parts):
        scores = distances(points[held:], points[:held]).tolist()
        found.append(distances(points[held:], new) > calibrate({"": scores}, settings)[""].threshold)
    return found


def fold_alarms(parts: int, folds: int, rate: float) -> list[NDArray[np.bool_]] | None:
    """As `split_alarms`, of folds."""
    if not keeps(parts, folds, rate):
        return None
    count, size = equal_folds(parts, folds)
    fold = np.where(np.arange(parts) < count * size, np.arange(parts) % count, -1)
    used = np.flatnonzero(fold >= 0)
    found = []
    for points, new in draws(parts):
        models = [points[fold != k] for k in range(count)]
        scores = [float(distances(models[fold[i]], points[i : i + 1])[0]) for i in used]
        limits = calibrate_across("", scores, fold[used].tolist(), CalibrationSettings(rate, folds=folds))
        assert limits.cross is not None
        own = np.stack([distances(model, new) for model in models])
        judged = [limits.cross.score(dict(enumerate(o)), limits.scores, limits.threshold) for o in own.T.tolist()]
        found.append(np.array(judged) > limits.threshold)
    return found


def simulations() -> list[str]:
    """A row a number of parts and a rate: the shares of good parts that FAIL, and of shifted ones that do not."""
    rows = ["| good parts | asked for | split, .2 held out | split, half held out | K = n |", "|---" * 5 + "|"]
    for parts in PARTS:
        for rate in RATES:
            split = [split_alarms(parts, held, rate) for held in (round(VAL_FRACTION * parts), parts // 2)]
            cells = []
            for alarms in (*split, fold_alarms(parts, parts, rate)):
                shares = None if alarms is None else np.mean(alarms, axis=0)
                cells.append("refused" if shares is None else f"{shares[0]:.1%}, {1 - shares[1]:.1%}")
            rows.append(f"| {parts} | {rate:.0%} | {' | '.join(cells)} |")
    return rows


def costs(images: int) -> list[str]:
    """A row a method and K: the median time of an image, and the size of the model's file."""
    device = best_device()
    encoder = load_encoder(EncoderSettings()).to(device)
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (512, 512, 3), np.uint8)) for _ in range(images)]
    rows = [f"| method, on {device_name(device)} | K | ms an image | model, MB |", "|---" * 4 + "|"]
    for name, own in (("inp_former", InpFormerSettings()), ("nearest", NearestSettings())):
        method = METHODS[name]
        models = [model(method, own, encoder, seed) for seed in range(max(COUNTS))]
        for count in COUNTS:
            detector = calibrated(encoder, method, own, models[:count])
            detector.predict(pictures[:1], ["part"])
            times = []
            for picture in pictures:
                start = perf_counter()
                detector.predict([picture], ["part"])
                times.append(perf_counter() - start)
            with tempfile.TemporaryDirectory() as folder:
                detector.save(Path(folder) / "detector")
                size = (Path(folder) / "detector" / MODEL_FILE).stat().st_size
            rows.append(f"| {name} | {count} | {1000 * median(times):.0f} | {size / 1e6:.1f} |")
    return rows


def model(method: Method, own: Any, encoder: Encoder, seed: int) -> Model:
    """Fitted to noise where it fits, else as it begins."""
    torch.manual_seed(seed)
    made = method.make(own, encoder.shape)
    noise = [torch.randn(NOISE_IMAGES, level.tokens, level.channels) for level in encoder.shape.levels]
    with torch.no_grad():
        for phase in made.eval().phases():
            if isinstance(phase, Fit):
                phase.fit([method.wants(own, encoder.shape).of(noise)])
    return made


def calibrated(encoder: Encoder, method: Method, own: Any, models: list[Model]) -> Detector:
    """One model, or a model a fold with a threshold of one part each."""
    learnt = LearntFrom("multi-class", "", ("part",))
    if len(models) == 1:
        return Detector(encoder, method, own, {ALL: models[0]}, learnt, {})
    scores, folds = [float(n) for n in range(len(models))], list(range(len(models)))
    thresholds = {"part": calibrate_across("part", scores, folds, CalibrationSettings(0.5))}
    return Detector(encoder, method, own, {}, learnt, thresholds, folds={ALL: models})


def run(images: int) -> None:
    """Prints the tables."""
    for table in (promises(), simulations(), costs(images)):
        print("\n".join(table), end="\n\n")
