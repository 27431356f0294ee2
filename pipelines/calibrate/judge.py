"""Who judges image files: the detector in this process, or its copies on the cluster of RAY_ADDRESS."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image

from inpformer.backends.names import TORCH
from inpformer.devices import best_device, device_name
from inpformer.judging.detector import Detector, Prediction
from pipelines.platform import ray_address
from pipelines.platform.weights import load_encoder


class Batch(NamedTuple):
    """Image files that are judged together, the category of each and, where there are folds, the one whose model alone
    is to judge it.
    """

    images: Sequence[Path]
    categories: Sequence[str]
    folds: Sequence[int] | None


class Judge(Protocol):
    """Judges batches of image files, in their order."""

    @property
    def detector(self) -> Detector:
        """What judges them."""

    @property
    def device(self) -> str:
        """On what they were judged, as people call it."""

    def predictions(self, batches: Sequence[Batch]) -> Iterator[Prediction]:
        """Those of each batch. Raises UserError naming an image that cannot be read."""


@dataclass(frozen=True)
class InProcess:
    """The detector itself."""

    detector: Detector

    @property
    def device(self) -> str:
        """See `Judge`."""
        return device_name(self.detector.encoder.device)

    def predictions(self, batches: Sequence[Batch]) -> Iterator[Prediction]:
        """See `Judge`."""
        for batch in batches:
            yield predicted(self.detector, [self.detector.open(path) for path in batch.images], batch)


def predicted(detector: Detector, pictures: Sequence[Image.Image], batch: Batch) -> Prediction:
    """What a detector says of a batch whose `pictures` were read."""
    if batch.folds is None:
        return detector.predict(pictures, batch.categories)
    return detector.predict_left_out(pictures, batch.categories, batch.folds)


@contextmanager
def judging(folder: Path, backend: str = TORCH) -> Iterator[Judge]:
    """The detector in `folder`, computed by `backend`, here or on the cluster of RAY_ADDRESS.

    Raises what loading it does, and UserError if the cluster cannot be reached or its tasks keep failing.
    """
    if ray_address.is_set():
        # Only here: without a cluster nobody needs to wait for Ray's import.
        from pipelines.calibrate.on_cluster import on_cluster

        with on_cluster(folder, backend) as judge:
            yield judge
    else:
        yield InProcess(load_detector(folder, backend))


def load_detector(folder: Path, backend: str) -> Detector:
    """On the device that its backend computes on: runtimes take the CPU. Raises what loading it does."""
    device = best_device() if backend == TORCH else "cpu"
    return Detector.load(folder, device=device, load=load_encoder, backend=backend)
