"""Whether an export decides as PyTorch does: every image is judged by both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from inpformer.errors import UserError
from inpformer.judging.calibration import Threshold, refuse_broken
from inpformer.judging.detector import Detector, Prediction
from inpformer.judging.plausibility import reviewed
from pipelines.evaluate.measure import Judged
from pipelines.manifest.build import read_mask
from pipelines.manifest.table import Row
from pipelines.promote.flips import Flip, Flips
from pipelines.promote.rescore import check_there, content_of

# How far a score may be off, by the weights' bits: as a share of the usual distance between the score of a held-out
# good part and the threshold. A map's pixel may be MAP_FACTOR times as far: a score is the mean of hundreds.
TOLERANCES: Mapping[int, float] = {32: 0.001, 16: 0.05}
MAP_FACTOR = 5
# Where all held-out scores are one, that distance is 0: this share of the threshold.
ROUNDING = 1e-4
NAMES = ("the export", "PyTorch")


def unit(limits: Threshold) -> float:
    """What differences of a category are measured in."""
    return limits.usual_distance or ROUNDING * abs(limits.threshold) or ROUNDING


@dataclass(frozen=True)
class Compared:
    """A category's `images`: the largest differences of their scores and of their maps, in units, and how many are
    decided differently by the export's thresholds. `unit` is a difference of scores. `on_edge` lie between a limit of
    the version and the export's, which is higher by the tolerance.
    """

    category: str
    images: int
    unit: float
    scores: float
    maps: float
    flipped: int
    on_edge: int


@dataclass(frozen=True)
class Proof:
    """What came of it. `milliseconds` are the median of an image on this machine, of the export and of PyTorch, one
    thread each.
    """

    backend: str
    precision: int
    tolerance: float
    compared: tuple[Compared, ...]
    milliseconds: tuple[float, float]
    flips: Flips

    @property
    def faults(self) -> list[str]:
        """Why the export is refused; empty if it is not."""
        found = []
        for one in self.compared:
            if one.flipped:
                found.append(f"{one.flipped} of {one.images} images of {one.category} are decided differently")
            for what, value, most in (
                ("scores", one.scores, self.tolerance),
                ("maps", one.maps, MAP_FACTOR * self.tolerance),
            ):
                if value > most:
                    found.append(
                        f"{what} of {one.category} differ by {value:.2g} of the usual distance between a good part and "
                        f"the threshold, above the {most:g} that {self.precision} bits may"
                    )
        return found

    @property
    def content(self) -> dict[str, Any]:
        """Of report.json."""
        ours, theirs = self.milliseconds
        return {
            "backend": self.backend,
            "precision": self.precision,
            "passed": not self.faults,
            "faults": self.faults,
            "tolerance": self.tolerance,
            "map_tolerance": MAP_FACTOR * self.tolerance,
            "categories": {
                one.category: {
                    "images": one.images,
                    "unit": one.unit,
                    "largest_score_difference": one.scores,
                    "largest_map_difference": one.maps,
                    "decided_differently": one.flipped,
                    "on_the_edge": one.on_edge,
                }
                for one in self.compared
            },
            "milliseconds": {"export": ours, "torch": theirs},
            "decided_differently": self.flips.listed,
        }


def prove(
    original: Detector,
    exported: Detector,
    root: Path,
    rows: Mapping[str, Sequence[Row]],
    backend: str,
    precision: int,
) -> Proof:
    """Judges images by category with both. Raises UserError for an image that is gone, changed or unreadable, and for a
    score that is no number.
    """
    check_there(root, [row for own in rows.values() for row in own])
    flips, compared, seconds = Flips(NAMES), [], []
    detectors = (exported, original)
    with tqdm(total=sum(map(len, rows.values())), desc="comparing", unit="image", disable=None) as progress:
        for category, own in rows.items():
            limits, before = exported.thresholds[category], original.thresholds[category]
            away, flipped, on_edge = np.zeros(2), 0, 0
            for row in own:
                image = original.open(content_of(root, row), str(root / row.path))
                found, taken = zip(*(_timed(one, image, category) for one in detectors), strict=True)
                seconds.append(taken)
                ours, theirs = (_score(one, root / row.path, name) for one, name in zip(found, NAMES, strict=True))
                # A limit is the score of a held-out image: PyTorch itself, with another number of threads, moves that
                # across. So both are held against the higher limits, and what lies between is counted.
                on_edge += before.decide(theirs) != limits.decide(theirs)
                doubted = [_doubted(*pair, category) for pair in zip(detectors, found, strict=True)]
                if reviewed(limits.decide(ours), doubted[0]) != reviewed(limits.decide(theirs), doubted[1]):
                    flipped += 1
                    flips.add(_flip(root, row, image, detectors, found, doubted, limits))
                furthest = np.abs(found[0].maps[0] - found[1].maps[0]).max()
                away = np.maximum(away, [abs(ours - theirs), furthest])
                progress.update()
            size = unit(before)
            scores, maps = (float(one) for one in away / size)
            compared.append(Compared(category, len(own), size, scores, maps, flipped, on_edge))
    fast, usual = (float(one) for one in 1000 * np.median(seconds, axis=0))
    return Proof(backend, precision, TOLERANCES[precision], tuple(compared), (fast, usual), flips)


def _timed(detector: Detector, image: Image.Image, category: str) -> tuple[Prediction, float]:
    begun = perf_counter()
    found = detector.predict([image], [category])
    return found, perf_counter() - begun


def _score(found: Prediction, file: Path, name: str) -> float:
    score = float(found.scores[0])
    refuse_broken(score, f"{file}, by {name},")
    return score


def _doubted(detector: Detector, found: Prediction, category: str) -> bool:
    return detector.plausibility.doubt(found.looks[0], category) is not None


def _flip(
    root: Path,
    row: Row,
    image: Image.Image,
    detectors: Sequence[Detector],
    found: Sequence[Prediction],
    doubted: Sequence[bool],
    limits: Threshold,
) -> Flip:
    mask = read_mask(root, row)
    judged = [
        Judged(row, float(one.scores[0]), one.maps[0], detector.mask(mask), doubt)
        for detector, one, doubt in zip(detectors, found, doubted, strict=True)
    ]
    return Flip.of(image, judged, (limits, limits), [detector.frame(image.size) for detector in detectors])


def images_by_category(rows: Sequence[Row], categories: Sequence[str]) -> dict[str, list[Row]]:
    """Of the categories that have a threshold. Raises UserError if one has no image to prove anything on."""
    by_category = {name: [row for row in rows if row.category == name] for name in sorted(categories)}
    if empty := [name for name, own in by_category.items() if not own]:
        raise UserError(
            f"category {empty[0]} has no held-out and no test images to compare on: train a version that has, with "
            "`dvc repro`."
        )
    return by_category
