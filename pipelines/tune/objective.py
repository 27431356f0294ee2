"""What a trial is judged by, of a model as it stands: average precision of images and of pixels, and the misses at the
threshold that the good pictures set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray

from inpformer.judging.calibration import calibrate
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods.base import Model
from inpformer.metrics.image import image_metrics
from inpformer.metrics.pixel import pixel_metrics
from pipelines.tune.judged import JudgedSet
from pipelines.tune.settings import MISS_RATE

BATCH_SIZE = 16


# What average precision weighs beside the miss rate: less than one pseudo-anomaly more of a thousand, so that it only
# orders trials that miss as many.
TIE = 1e-3


@dataclass(frozen=True)
class Objective:
    """Means over the categories, each in [0, 1]; `miss_rate` is the share of anomalous pictures that do not FAIL,
    `pixel_ap` is None where no anomalous image has a mask.
    """

    miss_rate: float
    image_ap: float
    pixel_ap: float | None

    def value(self, objective: str) -> float:
        """What the search makes as large as it can, in [0, 1], by tune.objective."""
        ap = self.image_ap if self.pixel_ap is None else (self.image_ap + self.pixel_ap) / 2
        return (1 - self.miss_rate + TIE * ap) / (1 + TIE) if objective == MISS_RATE else ap

    @classmethod
    def mean(cls, several: Sequence["Objective"]) -> "Objective":
        """Over seeds, or categories."""
        pixel = [objective.pixel_ap for objective in several if objective.pixel_ap is not None]
        return cls(
            fmean(objective.miss_rate for objective in several),
            fmean(objective.image_ap for objective in several),
            fmean(pixel) if pixel else None,
        )


def objective_of(model: Model, judged: JudgedSet, device: torch.device, false_alarm_rate: float) -> Objective:
    """Scores all pictures as the detector does. The model is as it was afterwards."""
    maps, scores = [], []
    training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(judged.labels), BATCH_SIZE):
            # A copy: what all trials share on a machine is read-only.
            groups = [
                torch.tensor(group[start : start + BATCH_SIZE], device=device).float() for group in judged.features
            ]
            maps.append(model.maps(groups, judged.image_size, zero_shot=False).cpu())
            scores.append(model.scores(maps[-1]))
    model.train(training)
    return rate(torch.cat(maps).numpy(), torch.cat(scores).numpy(), judged, false_alarm_rate)


def rate(
    maps: NDArray[np.float32], scores: NDArray[np.float32], judged: JudgedSet, false_alarm_rate: float
) -> Objective:
    """The objective of anomaly maps [n, 256, 256] and image scores [n].

    Raises UserError if a value in them is not finite.
    """
    found = []
    for category in np.unique(judged.categories):
        mine = judged.categories == category
        with_mask = mine & judged.mask_known
        image_ap = image_metrics(scores[mine], judged.labels[mine]).ap
        pixel_ap = pixel_metrics(maps[with_mask], judged.masks[with_mask]).ap if judged.masks[with_mask].any() else None
        good, anomalous = scores[mine & ~judged.labels], scores[mine & judged.labels]
        found.append(Objective(miss_rate(good, anomalous, false_alarm_rate), image_ap, pixel_ap))
    return Objective.mean(found)


def miss_rate(good: NDArray[np.float32], anomalous: NDArray[np.float32], false_alarm_rate: float) -> float:
    """The share of anomalous pictures that score no higher than the conformal threshold of the good ones: their highest
    score, where they are too few for the rate.
    """
    threshold = calibrate({"": good.tolist()}, CalibrationSettings(false_alarm_rate))[""].threshold
    return float(np.mean(anomalous <= threshold))
