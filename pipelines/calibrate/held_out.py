"""Held-out good images: none of them trained on, each part counted once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from inpformer.errors import UserError
from inpformer.judging.calibration import CHECKED, SAID, UNKNOWN, Threshold, calibrate, refuse_broken
from inpformer.judging.detector import Detector
from inpformer.judging.parts import parts_of
from inpformer.judging.plausibility import FEWEST_PARTS, Look, Plausibility
from inpformer.judging.settings import CalibrationSettings
from pipelines.calibrate.judge import Batch, Judge

BATCH_SIZE = 16


@dataclass(frozen=True)
class GoodImage:
    """An image file of a good part, with the sha256 (hex) of its content and the part that it shows, "" for its own.
    Images of one `linked` group look like one part ("": like no other's).
    """

    path: Path
    category: str
    sha256: str
    part: str
    linked: str = ""


class Found(NamedTuple):
    """What a detector says of an image file. The map may not be written to."""

    score: float
    anomaly_map: NDArray[np.float32]
    look: Look


def predict(
    judge: Judge,
    images: Sequence[Path],
    categories: Sequence[str],
    progress: tqdm,
    folds: Sequence[int] | None = None,
) -> Iterator[Found]:
    """What is said of each image file, judged a batch at a time; `categories` names each one's, `folds` the fold whose
    model alone is to judge it.

    Raises UserError naming an image that cannot be read, and one whose score is not finite.
    """
    parts = [slice(start, start + BATCH_SIZE) for start in range(0, len(images), BATCH_SIZE)]
    batches = [Batch(images[part], categories[part], None if folds is None else folds[part]) for part in parts]
    for batch, prediction in zip(batches, judge.predictions(batches), strict=True):
        found = zip(prediction.scores.tolist(), prediction.maps, prediction.looks, strict=True)
        for path, one in zip(batch.images, map(Found._make, found), strict=True):
            refuse_broken(one.score, str(path))
            yield one
        progress.update(len(prediction.maps))


def scores_of(judge: Judge, images: Sequence[GoodImage]) -> tuple[list[float], list[Look]]:
    """The scores and the looks of the images.

    Raises UserError for an image that the detector was trained on or cannot judge.
    """
    refuse_seen(judge.detector, images)
    return judged(judge, images)


def judged(
    judge: Judge, images: Sequence[GoodImage], folds: Sequence[int] | None = None
) -> tuple[list[float], list[Look]]:
    """The scores and the looks of the images; `folds` as in `predict`. Raises what that raises."""
    paths, categories = [image.path for image in images], [image.category for image in images]
    with tqdm(total=len(images), desc="calibrating", unit="image", disable=None) as progress:
        found = [(one.score, one.look) for one in predict(judge, paths, categories, progress, folds)]
    return [score for score, _ in found], [look for _, look in found]


def plausibility(images: Sequence[GoodImage], looks: Sequence[Look]) -> Plausibility:
    """What good pictures of the images' categories look like, from one image of each part."""
    draw, by_category = np.random.default_rng(0), {}
    for category in sorted({image.category for image in images}):
        own = draw.permutation([n for n, image in enumerate(images) if image.category == category])
        # Which image of a part it is, is drawn: the first of each might be the same view of all.
        _, first = np.unique(count_parts([images[n] for n in own]), return_index=True)
        by_category[category] = np.stack([looks[n] for n in own[np.sort(first)]])
    return Plausibility.of(by_category)


def unchecked(detector: Detector) -> list[str]:
    """A sentence for each category of which too few good parts are known to tell whether a picture shows one."""
    return [
        f"{category}: whether a picture shows one at all is not checked: that takes {FEWEST_PARTS} held-out good parts"
        for category in detector.unchecked
    ]


def refuse_seen(detector: Detector, images: Sequence[GoodImage]) -> None:
    """Raises UserError naming an image that the detector is known to have been trained on."""
    if detector.seen is None:
        return
    if trained_on := detector.seen.overlap([image.sha256 for image in images]):
        raise UserError(
            f"the model was trained on {images[trained_on[0]].path}, and on {len(trained_on)} of these {len(images)} "
            "images in all: thresholds take good images that the model has never seen."
        )


def unseen_by(detector: Detector, settings: CalibrationSettings) -> str:
    """How it is known that `scores_of` did not score images that the detector was trained on (see `Threshold`)."""
    if detector.seen is not None:
        return CHECKED
    return SAID if settings.unseen else UNKNOWN


def thresholds(
    images: Sequence[GoodImage], scores: Sequence[float], settings: CalibrationSettings, unseen: str
) -> dict[str, Threshold]:
    """The thresholds of the images' categories. Images of one part, copies and linked ones count once, with the highest
    score: the promise takes independent parts.

    Raises what `calibrate` raises.
    """
    by_category: dict[str, list[float]] = {}
    for category in sorted({image.category for image in images}):
        own = [n for n, image in enumerate(images) if image.category == category]
        parts = count_parts([images[n] for n in own])
        highest = np.full(parts.max() + 1, -np.inf)
        np.maximum.at(highest, parts, [scores[n] for n in own])
        by_category[category] = highest.tolist()
    return calibrate(by_category, settings, unseen)


def count_parts(images: Sequence[GoodImage]) -> NDArray[np.intp]:
    """The part of each image of one category, numbered from 0."""
    return parts_of(
        [image.part for image in images], [image.sha256 for image in images], [image.linked for image in images]
    )


def counted(images: Sequence[GoodImage], looked: bool) -> str:
    """How many images of one category are how many independent ones, and who says so; `looked` is whether anybody
    looked for linked ones.
    """
    named = int(parts_of([image.part for image in images], [image.sha256 for image in images]).max()) + 1
    parts = int(count_parts(images).max()) + 1
    words = f"{len(images)} good images" if named == len(images) else f"{len(images)} images of {named} good parts"
    if parts < named:
        return f"{words} that are {parts} independent ones by the gate's near duplicates"
    return words if looked else f"{words}, taken to be independent: near duplicates were not looked for (gate.ignore)"


def promise(
    category: str,
    threshold: Threshold,
    images: Sequence[GoodImage],
    looked: bool,
    settings: CalibrationSettings,
    say: str,
) -> str:
    """What the threshold of a category from these images is worth, in a sentence or two; `looked` as in `counted`.
    `say` is what a user sets who knows that the model was not trained on them.
    """
    parts = len(threshold.scores)
    on = "on average" if threshold.confidence is None else f"with {threshold.confidence:g} confidence"
    lines = [
        f"{category}: FAIL above {threshold.threshold:.4f}, REVIEW above {threshold.review_threshold:.4f}, from "
        f"{counted(images, looked)}: false alarms at most {threshold.false_alarm_rate:.2%} {on}"
    ]
    if threshold.missing_images:
        lines.append(
            f"this is NOT the {settings.false_alarm_rate:.2%} asked for: it takes {threshold.missing_images} more "
            f"held-out good {'images' if parts == len(images) else 'parts'}"
        )
    if not threshold.promised:
        lines.append(
            "this is NOT promised: which images the model was trained on is not known. If none of these was among "
            f"them, say so with {say}"
        )
    return "\n  ".join(lines)
