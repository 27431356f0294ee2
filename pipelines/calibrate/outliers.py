"""The good held-out images that set the thresholds: the few that decide how many defects pass."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from inpformer.judging.calibration import Threshold
from pipelines.calibrate.gallery import Shown, draw_gallery
from pipelines.calibrate.held_out import GoodImage, predict
from pipelines.calibrate.judge import Judge

MOST_CATEGORIES = 20  # in one picture


def setting(scores: Sequence[float], threshold: Threshold) -> dict[int, str]:
    """Of the images of one category by their number, highest score first, what is to be seen in them: the highest one,
    and those whose scores are the thresholds; of equals the first.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    roles: dict[int, list[str]] = {int(order[0]): ["the highest"]}
    for limit, role in ((threshold.threshold, "sets FAIL"), (threshold.review_threshold, "sets REVIEW")):
        found = next((int(n) for n in order if scores[n] == limit), None)
        if found is not None:
            roles.setdefault(found, []).append(role)
    return {number: ", ".join(said) for number, said in roles.items()}


def draw_outliers(
    judge: Judge,
    images: Sequence[GoodImage],
    scores: Sequence[float],
    folds: Sequence[int] | None,
    file: Path,
) -> None:
    """Writes them with their maps as one picture, of the first MOST_CATEGORIES categories; `folds` names the fold whose
    model gave the score of each image, where there are folds.
    """
    detector = judge.detector
    thresholds = detector.thresholds
    chosen: dict[int, str] = {}
    for category in sorted(thresholds)[:MOST_CATEGORIES]:
        own = [n for n, image in enumerate(images) if image.category == category]
        chosen |= {own[n]: said for n, said in setting([scores[n] for n in own], thresholds[category]).items()}
    paths, categories = [images[n].path for n in chosen], [images[n].category for n in chosen]
    own_folds = None if folds is None else [folds[n] for n in chosen]
    with tqdm(total=len(chosen), desc="drawing", unit="image", disable=None) as progress:
        maps = [one.anomaly_map for one in predict(judge, paths, categories, progress, own_folds)]
    pictures = []
    for (number, said), anomaly_map in zip(chosen.items(), maps, strict=True):
        image = detector.open(images[number].path)
        title = f"{images[number].category}: {images[number].path.name}, {scores[number]:.3f}, {said}"
        mask = np.zeros(anomaly_map.shape, np.bool_)
        seen = detector.frame(image.size).visible(image)
        pictures.append(Shown(title, seen, mask, anomaly_map, thresholds[images[number].category].threshold))
    draw_gallery(pictures, file)
