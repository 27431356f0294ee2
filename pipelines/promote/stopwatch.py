"""Times detectors in the process that runs this."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from inpformer.devices import best_device
from inpformer.judging.detector import Detector
from pipelines.platform.weights import load_encoder
from pipelines.promote.cost import WARM_UP, Cost, peak_memory


def measure(folders: Sequence[Path], images: Sequence[tuple[str, str]]) -> list[Cost]:
    """Each detector judges each of the images (path, category) once, from its bytes to the decision with its regions:
    all of them the first image, then all the next, each time another one first.
    """
    torch.set_num_threads(1)
    device, load = best_device(), cache(load_encoder)
    detectors = [Detector.load(folder, device=device, load=load) for folder in folders]
    contents = [(Path(path).read_bytes(), category) for path, category in images]
    for content, category in contents[:WARM_UP]:
        for detector in detectors:
            _decide(detector, content, category)
    times: list[list[float]] = [[] for _ in detectors]
    for number, (content, category) in enumerate(contents):
        for turn in range(len(detectors)):
            place = (number + turn) % len(detectors)
            begun = perf_counter()
            _decide(detectors[place], content, category)
            times[place].append(1000 * (perf_counter() - begun))
    memory = peak_memory()
    quantiles = [np.quantile(own, [0.5, 0.99]) for own in times]
    return [Cost(float(p50), float(p99), memory, len(contents)) for p50, p99 in quantiles]


def _decide(detector: Detector, content: bytes, category: str) -> None:
    image = detector.open(content, "the image")
    found = detector.predict([image], [category])
    detector.decide(float(found.scores[0]), found.maps[0], found.looks[0], image.size, category)
