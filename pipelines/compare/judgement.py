"""What one training is worth: thresholds from the held-out good images, then the test images, judged once and kept."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from tqdm import tqdm

from inpformer.config import build
from inpformer.errors import UserError
from inpformer.judging.calibration import Threshold
from inpformer.judging.settings import CalibrationSettings
from inpformer.metrics.settings import BootstrapSettings
from pipelines.calibrate.judge import judging
from pipelines.calibrate.thresholds import calibrated
from pipelines.compare.data import Data
from pipelines.compare.kinds import kinds_of
from pipelines.compare.metrics import Measured, measured
from pipelines.compare.trainings import Training
from pipelines.evaluate.measure import Judged, Measurement
from pipelines.evaluate.test_images import check_setting, judged_images
from pipelines.gate.linked import Linked
from pipelines.manifest.table import Row
from pipelines.platform import files, provenance

THREADS = 4  # that rate pixels side by side, each with 0.1 MB a replicate
DETECTOR, NUMBERS, REPLICATES = "detector", "judgement.json", "replicates.npy"
# A category's images: all of them, or the good ones and those of one kind of defect.
Cell = tuple[str, str | None]


@dataclass(frozen=True)
class Rules:
    """What all trainings are judged by: the promise that thresholds keep, and the draws of the replicates."""

    promise: CalibrationSettings
    draws: BootstrapSettings

    def key(self, training: Training, linked: Linked) -> str:
        """Names a judgement: equal for equal trainings, code, rules and near duplicates."""
        rooms = ("inpformer", "pipelines/calibrate", "pipelines/evaluate", "pipelines/promote", "pipelines/compare")
        identity = [training.key, provenance.source_digest(*rooms), asdict(self), linked.looked, linked.groups]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Said:
    """What was decided of a test image; `beyond` is how far its score lies above the threshold, in usual distances of a
    good part's.
    """

    path: str
    category: str
    label: int
    defect: str
    score: float
    decision: str
    beyond: float


@dataclass(frozen=True)
class Judgement:
    """`cells` hold the metrics by name; `detector` is the folder of the calibrated one, `false_alarm_rate` the promise
    by category.
    """

    cells: Mapping[Cell, Mapping[str, Measured]]
    said: Sequence[Said]
    false_alarm_rate: Mapping[str, float]
    detector: Path


def judge(training: Training, data: Data, rules: Rules, folder: Path) -> Judgement:
    """Judges, and keeps all of it in `folder`.

    Raises UserError for an image that cannot be judged, or that the training has seen.
    """
    test = [row for rows in data.rows.values() for row in rows]
    cells: dict[Cell, dict[str, Measured]] = {}
    said: list[Said] = []
    with judging(training.model) as here:
        calibrated(here, data.manifest, data.linked, rules.promise)
        check_setting(here.detector, data.manifest)
        thresholds = here.detector.thresholds
        with tqdm(total=len(test), desc=training.name, unit="image", disable=None) as progress:
            stream = judged_images(data.manifest, here, test, progress)
            for number, (category, images) in enumerate(groupby(stream, lambda judged: judged.row.category)):
                # Draws of its own for each category, the same for all that judge it.
                seeded = replace(rules.draws, seed=rules.draws.seed + number)
                limit = thresholds[category]
                with CategoryMeasurement(category, data.rows[category], data.linked, limit, seeded) as measurement:
                    for one in images:
                        said.append(_said(one, limit))
                        measurement.add(one)
                    cells |= measurement.result()
        with files.written_whole(folder) as temporary:
            temporary.mkdir(parents=True)
            here.detector.save(temporary / DETECTOR)
            promised = {category: thresholds[category].false_alarm_rate for category in data.rows}
            _write(Judgement(cells, said, promised, folder / DETECTOR), temporary)
    return read_judgement(folder)


class CategoryMeasurement:
    """Measures a category's images, and those of each kind of defect with the good ones. A context manager."""

    def __init__(
        self, category: str, rows: Sequence[Row], linked: Linked, threshold: Threshold, draws: BootstrapSettings
    ) -> None:
        self._category, self._linked, self._threshold, self._draws = category, linked, threshold, draws
        self._kinds = kinds_of(rows, linked)
        self._open = ExitStack()
        saturated = any(row.saturations for row in rows)
        self._measuring = {
            kind: self._open.enter_context(Measurement(draws, linked, smooth=True, saturated=saturated))
            for kind in (None, *(self._kinds if len(self._kinds) > 1 else ()))
        }
        self._masked: dict[str | None, list[bool]] = {kind: [] for kind in self._measuring}

    def __enter__(self) -> "CategoryMeasurement":
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def add(self, judged: Judged) -> None:
        """Takes one image."""
        for kind, measurement in self._measuring.items():
            if kind is None or judged.row.path in self._kinds[kind]:
                measurement.add(judged)
                self._masked[kind].append(bool(judged.mask.any()))

    def result(self) -> dict[Cell, dict[str, Measured]]:
        """The cells. A category with one kind of defect has that of all its images as that kind's, too."""
        found: dict[Cell, dict[str, Measured]] = {}
        with ThreadPoolExecutor(THREADS) as pool:
            reports = list(pool.map(lambda one: one.report(self._threshold), self._measuring.values()))
        for kind, report in zip(self._measuring, reports, strict=True):
            found[self._category, kind] = measured(
                report, self._masked[kind], self._linked, self._threshold, self._draws
            )
        if len(self._kinds) == 1:
            found[self._category, next(iter(self._kinds))] = found[self._category, None]
        return found


def _said(judged: Judged, threshold: Threshold) -> Said:
    row, score = judged.row, judged.score
    beyond = (score - threshold.threshold) / (threshold.usual_distance or 1.0)
    return Said(row.path, row.category, row.label, row.defect, score, threshold.decide(score), beyond)


def _write(judgement: Judgement, folder: Path) -> None:
    listed = [
        {"category": category, "kind": kind, "metric": name, "value": one.value, "parts": one.parts}
        for (category, kind), metrics in judgement.cells.items()
        for name, one in metrics.items()
    ]
    replicates = [one.replicates for metrics in judgement.cells.values() for one in metrics.values()]
    np.save(folder / REPLICATES, np.stack(replicates))
    numbers = {
        "measured": listed,
        "said": [asdict(one) for one in judgement.said],
        "false_alarm_rate": dict(judgement.false_alarm_rate),
    }
    (folder / NUMBERS).write_text(json.dumps(numbers, indent=1) + "\n")


def read_judgement(folder: Path) -> Judgement:
    """What `judge` kept. Raises UserError if it is damaged."""
    cells: dict[Cell, dict[str, Measured]] = {}
    try:
        numbers = json.loads((folder / NUMBERS).read_text())
        replicates = np.load(folder / REPLICATES)
        for one, row in zip(numbers["measured"], replicates, strict=True):
            cell = cells.setdefault((one["category"], one["kind"]), {})
            cell[one["metric"]] = Measured(float(one["value"]), row, int(one["parts"]))
        said = [build(Said, one, str(folder / NUMBERS)) for one in numbers["said"]]
        return Judgement(cells, said, numbers["false_alarm_rate"], folder / DETECTOR)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is damaged ({error}): remove it to judge again.") from None
