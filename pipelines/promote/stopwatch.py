"""Times a detector in the process that runs this."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from inpformer.devices import best_device
from inpformer.judging.detector import Detector
from pipelines.platform.weights import load_encoder
from pipelines.promote.cost import WARM_UP, Cost, peak_memory


def measure(folder: Path, images: Sequence[tuple[str, str]]) -> Cost:
    """Judges each of the images (path, category) once, from its bytes to the decision with its regions."""
    torch.set_num_threads(1)
    detector = Detector.load(folder, device=best_device(), load=load_encoder)
    contents = [(Path(path).read_bytes(), category) for path, category in images]
    for content, category in contents[:WARM_UP]:
        _decide(detector, content, category)
    times = []
    for content, category in contents:
        begun = perf_counter()
        _decide(detector, content, category)
        times.append(1000 * (perf_counter() - begun))
    p50, p99 = np.quantile(times, [0.5, 0.99])
    return Cost(float(p50), float(p99), peak_memory(), len(times))


def _decide(detector: Detector, content: bytes, category: str) -> None:
    image = detector.open(content, "the image")
    found = detector.predict([image], [category])
    detector.decide(float(found.scores[0]), found.maps[0], found.looks[0], image.size, category)
