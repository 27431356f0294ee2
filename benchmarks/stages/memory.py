"""The memory and the disk that a category's measurement takes, by the number of its images."""

import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from scipy import ndimage

from inpformer.judging.calibration import Threshold
from inpformer.metrics.settings import BootstrapSettings
from pipelines.evaluate.measure import Judged, Measurement
from pipelines.gate.linked import Linked
from pipelines.manifest.table import Row

SIZE = 256
NOISE = 32  # pictures of noise, of which each map is one, moved and scaled
EVERY = 0.05  # seconds between two looks at the process
THRESHOLD = Threshold(0.5, 0.5, 0.01, None, 0, tuple(np.linspace(0, 0.5, 99).tolist()))


class Watch(threading.Thread):
    """Looks at this process all the time. `highest` are the largest numbers of bytes seen: of its memory in all, of
    that without mapped files, which the system takes back when others need it, and of nameless temporary files.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest = [0, 0, 0]

    def run(self) -> None:
        """Never ends: the process does."""
        while True:
            self.highest = [max(pair) for pair in zip(self.highest, self._now(), strict=True)]
            time.sleep(EVERY)

    def _now(self) -> tuple[int, int, int]:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        held = [int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon")]
        files = {}  # a file that is mapped is open twice
        for number in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # closed meanwhile
                found = os.fstat(int(number))
                files[found.st_ino] = 0 if found.st_nlink else found.st_size
        return held[0], held[1], sum(files.values())


def made_up(images: int) -> Iterator[Judged]:
    """Images of one category, one in three with a defect."""
    rng = np.random.default_rng(0)
    noise = [ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), 4).astype(np.float32) for _ in range(NOISE)]
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for number in range(images):
        moved = np.roll(noise[number % NOISE], rng.integers(SIZE, size=2), (0, 1))
        anomaly_map, mask = moved * np.float32(rng.uniform(0.5, 2)) + np.float32(0.3), np.zeros((SIZE, SIZE), np.bool_)
        defective = number % 3 == 0
        if defective:
            y, x, radius = *rng.integers(30, SIZE - 30, 2), rng.uniform(4, 25)
            mask = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
            anomaly_map[mask] += np.float32(rng.uniform(0, 0.4))
        sha256 = f"{number:064x}"
        kind = "chip" if defective else "good"
        row = Row(f"{number:07}.png", "nut", "test", int(defective), kind, [], 1, 0, SIZE, SIZE, sha256, "")
        yield Judged(row, float(anomaly_map.max()), anomaly_map, mask)


def measure(images: int) -> None:
    """Prints a line."""
    watch = Watch()
    watch.start()
    began = time.perf_counter()
    with Measurement(BootstrapSettings(), Linked(True)) as measurement:
        for judged in made_up(images):
            measurement.add(judged)
        taken, computed = time.perf_counter() - began, time.process_time()
        report = measurement.report(THRESHOLD)
    seconds = time.perf_counter() - began
    memory, own, disk = (value / 1e9 for value in watch.highest)
    print(
        f"{images:6} images: {memory:5.2f} GB of memory at most, {own:5.2f} GB without mapped files; {disk:5.1f} GB of "
        f"temporary files; {seconds:.0f} s, of them {seconds - taken:.0f} for the report, with "
        f"{time.process_time() - computed:.0f} of processor (aupro "
        f"{report.metrics['aupro']:.6f}, pixel_ap {report.metrics['pixel_ap']:.6f})",
        flush=True,
    )


def run(numbers: Sequence[int], folder: Path | None) -> None:
    """Prints a line for each number of images."""
    if folder is not None:
        os.environ["TMPDIR"] = str(folder)
        tempfile.tempdir = None
    context = multiprocessing.get_context("spawn")
    for images in numbers:
        process = context.Process(target=measure, args=(images,))
        process.start()
        process.join()
