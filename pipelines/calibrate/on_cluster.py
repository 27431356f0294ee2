"""A detector's copies on the machines of a cluster: the driver reads the image files, the copies judge them."""

import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# First of ours: it silences Ray, which looks at its environment when it is imported.
from pipelines.platform.cluster import cluster, failure, gpus_a_model  # isort: skip

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import ObjectLostError, RayActorError, RayError

from inpformer.backends.names import ONNXRUNTIME, OPENVINO
from inpformer.devices import device_name
from inpformer.images.opening import read_file
from inpformer.judging.detector import Detector, Prediction
from inpformer.streams import ahead
from pipelines.calibrate.judge import Batch, load_detector, predicted
from pipelines.platform.weights import load_encoder

ON_CPUS = (ONNXRUNTIME, OPENVINO)  # the backends
MOST_COPIES = 64  # one driver reads the files and takes the maps
BATCHES_A_COPY = 2  # under way: one is judged while the next travels
BATCHES_READ = 2  # ahead of those
MOST_FAILURES = 3  # of the machines or processes that did a piece of work


class Copy:
    """What an actor holds: a detector of its own."""

    def load(self, files: dict[str, NDArray[np.uint8]], backend: str) -> str:
        """Takes the detector's files, by name; returns the name of its device. Raises what loading a detector does."""
        with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
            for name, content in files.items():
                content.tofile(Path(folder) / name)
            self._detector = load_detector(Path(folder), backend)
        return device_name(self._detector.encoder.device)

    def judge(self, contents: Sequence[bytes], batch: Batch) -> Prediction:
        """The prediction of a batch whose files hold `contents`."""
        with ThreadPoolExecutor() as pool:
            pictures = list(pool.map(self._detector.open, contents, map(str, batch.images)))
        return predicted(self._detector, pictures, batch)


@dataclass
class Work:
    """What a copy is given: a batch, its number and the contents of its files in Ray's store; first, as None, the
    detector. `failures` counts the copies that died meanwhile.
    """

    batch: tuple[int, Batch, Any] | None = None
    failures: int = 0


class OnCluster:
    """A `Judge` with a copy for each GPU, or CPU where there is none, as far as there are batches for them. They stay
    until it is closed.
    """

    def __init__(self, detector: Detector, folder: Path, backend: str) -> None:
        self.detector = detector
        files = {file.name: np.fromfile(file, np.uint8) for file in folder.iterdir() if file.is_file()}
        self._files, self._backend = ray.put(files), backend
        gpus = 0 if backend in ON_CPUS else gpus_a_model()
        self._copy = ray.remote(num_cpus=0 if gpus else 1, num_gpus=gpus)(Copy)
        self._most = min(MOST_COPIES, max(1, int(ray.cluster_resources().get("GPU" if gpus else "CPU", 1))))
        self._copies: list[Any] = []
        self._free: deque[Any] = deque()  # each copy as often as it may be given a batch
        self._running: dict[Any, tuple[Any, Work]] = {}
        self._devices: set[str] = set()

    @property
    def device(self) -> str:
        """See `Judge`; all kinds where copies have several."""
        return " and ".join(sorted(self._devices))

    def close(self) -> None:
        """Ends the copies, at work or not."""
        for copy in self._copies:
            ray.kill(copy)

    def predictions(self, batches: Sequence[Batch]) -> Iterator[Prediction]:
        """See `Judge`. Few batches are read, under way or waiting for their turn at a time.

        Raises UserError too if copies keep dying.
        """
        while len(self._copies) < min(self._most, -(-len(batches) // BATCHES_A_COPY)):
            self._add_copy(Work())
        at_most = 2 * BATCHES_A_COPY * len(self._copies)
        contents = ahead(_stored, batches, BATCHES_READ)
        unread = (Work((number, *pair)) for number, pair in enumerate(zip(batches, contents, strict=True)))
        again: deque[Work] = deque()
        finished: dict[int, Prediction] = {}
        for number in range(len(batches)):
            while number not in finished:
                while self._free and (again or len(self._running) + len(finished) < at_most):
                    work = again.popleft() if again else next(unread, None)
                    if work is None:
                        break
                    self._give(self._free.popleft(), work)
                self._take(finished, again)
            yield finished.pop(number)

    def _add_copy(self, loading: Work) -> None:
        # A copy that finds no place, as others hold it, is given no batch, so that nobody waits for it.
        copy = self._copy.remote()
        self._copies.append(copy)
        self._give(copy, loading)

    def _give(self, copy: Any, work: Work) -> None:
        if work.batch is None:
            done = copy.load.remote(self._files, self._backend)
        else:
            _, batch, contents = work.batch
            done = copy.judge.remote(contents, batch)
        self._running[done] = copy, work

    def _take(self, finished: dict[int, Prediction], again: deque[Work]) -> None:
        """Waits for one piece of work. What a copy did not finish because it died goes to another one."""
        (done,), _ = ray.wait(list(self._running), num_returns=1)
        copy, work = self._running.pop(done)
        try:
            found = ray.get(done)
        except (RayActorError, ObjectLostError) as error:
            work.failures += 1
            if work.failures > MOST_FAILURES:
                raise failure("judging on the cluster", error) from None
            self._replace(copy, work, again)
        except RayError as error:
            raise failure("judging on the cluster", error) from None
        else:
            if work.batch is None:
                self._devices.add(found)
                self._free.extend([copy] * BATCHES_A_COPY)
            else:
                finished[work.batch[0]] = found
                self._free.extend([copy] if copy in self._copies else [])

    def _replace(self, copy: Any, work: Work, again: deque[Work]) -> None:
        if work.batch is not None:
            again.append(work)
        if copy in self._copies:  # its other batch may have told already
            self._copies.remove(copy)
            self._free = deque(other for other in self._free if other != copy)
            ray.kill(copy)
            self._add_copy(Work(failures=work.failures if work.batch is None else 0))


def _stored(batch: Batch) -> Any:
    """The contents of a batch's files, in Ray's store."""
    return ray.put([read_file(path, str(path)) for path in batch.images])


@contextmanager
def on_cluster(folder: Path, backend: str) -> Iterator[OnCluster]:
    """The detector in `folder` on the cluster of RAY_ADDRESS; nothing of it stays there. Raises what `cluster` and
    loading a detector do.
    """
    # The driver's own computes nothing: it says what the thresholds are, and where maps lie on images.
    detector = Detector.load(folder, load=load_encoder)
    with cluster():
        judge = OnCluster(detector, folder, backend)
        try:
            yield judge
        finally:
            judge.close()
