"""Whether thresholds that were made on one device hold on another: a GPU and a CPU do not round alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from inpformer.errors import UserError
from inpformer.judging.calibration import Threshold
from inpformer.judging.detector import Detector
from pipelines.calibrate.held_out import predict
from pipelines.calibrate.judge import InProcess

# Images a category, and in all, that are judged again; as few as a CPU takes a minute for.
NEAREST, MOST = 8, 64
# A score that moves by no more than this share of the usual distance between a good image's score and its threshold may
# cross a limit. The image that set the threshold lies on it, so that any rounding moves it across.
ALLOWED = 0.01
# Where all scores are one there is no such distance: this share of the threshold is what float32 rounds away.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Difference:
    """`largest` difference of two devices' scores; `share` of the usual distance to the threshold that it is, at most
    (0 / 0 is 0); `flipped` are the places of images about which the devices decide differently.
    """

    largest: float
    share: float
    flipped: list[int]


def compare(scores: Sequence[float], others: Sequence[float], thresholds: Sequence[Threshold]) -> Difference:
    """Compares the scores of images on two devices; `thresholds` has each one's."""
    differences = np.abs(np.subtract(others, scores))
    shares, flipped = [0.0], []
    for place, (score, other, limits) in enumerate(zip(scores, others, thresholds, strict=True)):
        usual = limits.usual_distance
        if differences[place]:
            shares.append(float(differences[place] / usual) if usual else float("inf"))
        moved = differences[place] > max(ALLOWED * usual, ROUNDING * abs(limits.threshold))
        if moved and limits.decide(score) != limits.decide(other):
            flipped.append(place)
    return Difference(float(differences.max(initial=0.0)), max(shares), flipped)


def nearest(scores: Sequence[float], categories: Sequence[str], thresholds: Mapping[str, Threshold]) -> list[int]:
    """The places of the images nearest to a limit of their category, some of each category."""
    count = max(1, min(NEAREST, MOST // len(set(categories))))
    chosen: list[int] = []
    for category in sorted(set(categories)):
        limits = thresholds[category]
        distances = {
            n: min(abs(scores[n] - limits.threshold), abs(scores[n] - limits.review_threshold))
            for n, own in enumerate(categories)
            if own == category
        }
        chosen += sorted(distances, key=lambda n: distances[n])[:count]
    return chosen


def check_on_cpu(
    detector: Detector,
    images: Sequence[Path],
    categories: Sequence[str],
    scores: Sequence[float],
    device: str,
    folds: Sequence[int] | None = None,
) -> None:
    """Judges the images nearest their thresholds with a detector that was loaded on the CPU, and says how far it is
    from `scores`, which `device` gave when the thresholds were made; `folds` names the fold whose model gave each.

    Raises UserError if it decides differently about any of them.
    """
    places = nearest(scores, categories, detector.thresholds)
    own = [categories[n] for n in places]
    with tqdm(total=len(places), desc="checking on the CPU", unit="image", disable=None) as progress:
        mine = None if folds is None else [folds[n] for n in places]
        here = [one.score for one in predict(InProcess(detector), [images[n] for n in places], own, progress, mine)]
    found = compare([scores[n] for n in places], here, [detector.thresholds[category] for category in own])
    distance = f"{found.largest:.2g}, {found.share:.2%} of the usual distance between a good image and its threshold"
    if found.flipped:
        first = places[found.flipped[0]]
        raise UserError(
            f"the saved detector decides differently on a CPU than on {device}, where its thresholds were made, about "
            f"{len(found.flipped)} of {len(places)} held-out images ({images[first]} first); scores differ by up to "
            f"{distance}: calibrate on the kind of device that will serve it."
        )
    print(
        f"judged again on a CPU, {len(places)} held-out images are decided as in the calibration (on {device}): scores "
        f"differ by at most {distance}"
    )
