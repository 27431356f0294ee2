"""What each method costs: an image's time and a process's memory on this machine, and the time of a training."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pipelines.compare.comparison import Judgements
from pipelines.compare.data import Data
from pipelines.compare.trainings import Training
from pipelines.promote.cost import measure_apart

TIMED, HELD = 30, 3  # images, for time and for memory


@dataclass(frozen=True)
class MethodCost:
    """Milliseconds of an image, the median of one at a time on one thread, all methods in one process and in turn; the
    peak in MB (10⁶ bytes) of a process that judges with this method alone; seconds of a training, the mean over seeds.
    """

    milliseconds: float
    memory_mb: float
    training_seconds: float


def costs_of(trainings: Sequence[Training], judgements: Judgements, data: Data) -> dict[str, MethodCost]:
    """By method, of its first seed's detector. Raises UserError if a measuring process fails."""
    images = [(data.manifest.root / row.path, category) for category, rows in data.rows.items() for row in rows]
    chosen = images[:: max(1, -(-len(images) // TIMED))]
    detectors = [own[0].detector for own in judgements.values()]
    with tempfile.TemporaryDirectory(prefix="inpformer-") as temporary:
        folder = Path(temporary)
        timed = measure_apart(detectors, chosen, folder)
        held = [measure_apart([one], chosen[:HELD], folder)[0] for one in detectors]
    seconds = _seconds(trainings)
    return {
        method: MethodCost(time.p50_ms, memory.memory_mb, seconds[method])
        for method, time, memory in zip(judgements, timed, held, strict=True)
    }


def _seconds(trainings: Sequence[Training]) -> Mapping[str, float]:
    methods = dict.fromkeys(one.settings.method for one in trainings)
    return {
        method: fmean(one.record["seconds"] for one in trainings if one.settings.method == method) for method in methods
    }
