"""Thresholds from all good images: each judged by a model that was trained without its fold (`calibrate.folds`)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inpformer.errors import UserError
from inpformer.judging.calibration import Threshold, calibrate_across
from inpformer.judging.cross import equal_folds, folds_needed
from inpformer.judging.detector import Detector
from inpformer.judging.plausibility import Look
from inpformer.judging.seen import BY_ALL
from inpformer.judging.settings import CalibrationSettings
from pipelines.calibrate.held_out import GoodImage, count_parts, counted, judged
from pipelines.calibrate.judge import Judge

TRAIN_AGAIN = "run `dvc repro --force --single-item train`"


@dataclass(frozen=True)
class LeftOut:
    """Good images, and of each the fold whose model has not seen it."""

    images: list[GoodImage]
    folds: list[int]


def refuse_other_models(detector: Detector, folds: int | None) -> None:
    """Raises UserError if the models are of folds, and the thresholds are not to be, or the other way round."""
    if bool(detector.folds) != (folds is not None):
        found = "a model a fold" if detector.folds else "no models of folds"
        raise UserError(f"calibrate.folds is {folds}, but what was trained has {found}: run `dvc repro`.")


def left_out(detector: Detector, images: Sequence[GoodImage]) -> LeftOut:
    """Those of the images that the model of some fold has not seen, by the detector's own record.

    Raises UserError naming an image that was not among those of the training.
    """
    found = [] if detector.seen is None else detector.seen.fold_of([image.sha256 for image in images])
    if None in found or not found:
        path = images[found.index(None) if found else 0].path
        raise UserError(f"{path} was not among the images that the models of folds were trained on: {TRAIN_AGAIN}.")
    pairs = [(image, fold) for image, fold in zip(images, found, strict=True) if fold is not None and fold != BY_ALL]
    return LeftOut([image for image, _ in pairs], [fold for _, fold in pairs])


def scores_across(judge: Judge, known: LeftOut) -> tuple[list[float], list[Look]]:
    """The score of each image of the model that has not seen it, and its look. Raises UserError for one that it cannot
    judge.
    """
    return judged(judge, known.images, known.folds)


def thresholds_across(known: LeftOut, scores: Sequence[float], settings: CalibrationSettings) -> dict[str, Threshold]:
    """The thresholds of the images' categories. Images of one part, copies and linked ones count once, with the highest
    score.

    Raises UserError if the record of the training has other folds than its images make.
    """
    assert settings.folds is not None
    made = {}
    for category in sorted({image.category for image in known.images}):
        own = [n for n, image in enumerate(known.images) if image.category == category]
        parts = count_parts([known.images[n] for n in own])
        highest = np.full(parts.max() + 1, -np.inf)
        np.maximum.at(highest, parts, [scores[n] for n in own])
        of_part = {part: known.folds[n] for part, n in zip(parts.tolist(), own, strict=True)}
        together = all(of_part[part] == known.folds[n] for part, n in zip(parts.tolist(), own, strict=True))
        sizes = Counter(of_part.values())
        # The bound is of folds of one size, as many as were asked for or as there are parts.
        if not together or len(set(sizes.values())) > 1 or len(sizes) != equal_folds(len(of_part), settings.folds)[0]:
            raise UserError(f"the models' folds of category {category} are not those of its images: {TRAIN_AGAIN}.")
        own_folds = [of_part[part] for part in range(len(highest))]
        made[category] = calibrate_across(category, highest.tolist(), own_folds, settings)
    return made


def promise_across(
    category: str, threshold: Threshold, images: Sequence[GoodImage], looked: bool, settings: CalibrationSettings
) -> str:
    """What the threshold of a category is worth that has these good images, in a sentence or two; `looked` as in
    `counted`.
    """
    assert threshold.cross is not None
    parts, used = int(count_parts(images).max()) + 1, len(threshold.scores)
    of = f"{counted(images, looked)}, in {len(threshold.cross.models)} folds"
    of += f" ({parts - used} left over)" if parts > used else ""
    lines = [
        f"{category}: FAIL above {threshold.threshold:.4f}, REVIEW above {threshold.review_threshold:.4f}, from {of}: "
        f"false alarms at most {threshold.false_alarm_rate:.2%} on average"
    ]
    if threshold.missing_images:
        enough = folds_needed(parts, settings.false_alarm_rate)
        other = "" if enough is None else f", or calibrate.folds: {enough} with these"
        more = len(threshold.scores) + threshold.missing_images - parts
        lines.append(
            f"this is NOT the {settings.false_alarm_rate:.2%} asked for: it takes {more} more good parts with "
            f"calibrate.folds: {settings.folds}{other}"
        )
    return "\n  ".join(lines)
