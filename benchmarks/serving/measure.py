"""A registry with one detector, the service on it, and clients."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import torch
from mlflow import MlflowClient
from PIL import Image

from benchmarks.latency.measure import CATEGORY, png, untrained
from inpformer.errors import UserError
from inpformer.images.opening import open_image
from inpformer.judging.detector import Detector
from serving.fetched import DETECTOR_FOLDER

MODEL, ALIAS = "inpformer", "champion"
PICTURES = 16
SHARE_OF_THROUGHPUT = 0.7
TOLERANCE = 1e-4
# By version, one a picture.
Scores = Mapping[int, Sequence[float]]


@dataclass
class Asked:
    """Seconds of the answers with a verdict, by which versions these were, how many had none, and the whole time."""

    seconds: list[float] = field(default_factory=list)
    versions: Counter[int] = field(default_factory=Counter)
    refused: int = 0
    wall: float = 0.0

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return len(self.seconds) / self.wall

    def row(self, name: str, bare: "Asked") -> str:
        """In Markdown."""
        p50, p95, p99 = (f"{1e3 * v:.1f}" for v in np.percentile(self.seconds, (50, 95, 99)))
        return f"| {name} | {self.rate:.1f} | {self.rate / bare.rate:.2f} | {p50} | {p95} | {p99} | {self.refused} |"


def run(clients: list[int], seconds: float, beside: Callable[[Path], AbstractContextManager[str]] | None) -> None:
    """Measures, and prints; `beside` serves the same detector in another way, given its folder."""
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))  # as the service has it
    rng = np.random.default_rng(0)
    contents = [png(rng) for _ in range(PICTURES)]
    detector = untrained("inp_former", contents)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uri = register(folder, [detector])
        with served(folder, uri) as address:
            best = _closed_loops(address, detector, contents, clients, seconds)
            _open_loop(address, detector, contents, SHARE_OF_THROUGHPUT * best, seconds)
        if beside is not None:
            with beside(folder / "detector-0" / Path(DETECTOR_FOLDER).name) as address:
                _closed_loops(address, detector, contents, clients, seconds)
                _open_loop(address, detector, contents, SHARE_OF_THROUGHPUT * best, seconds)


def _closed_loops(address: str, detector: Detector, contents: list[bytes], clients: list[int], seconds: float) -> float:
    """The best rate."""
    print("| | pictures/s | of the bare loop's | p50, ms | p95 | p99 | refused |\n|---|---|---|---|---|---|---|")
    scores, best = _own_scores(detector, contents), 0.0
    for count in clients:
        alone = bare(detector, contents, seconds / 2)
        print(alone.row("bare loop", alone), flush=True)
        asked = closed_loop(address, contents, scores, count, seconds)
        best = max(best, asked.rate)
        print(asked.row(f"{count} clients", alone), flush=True)
    return best


def _open_loop(address: str, detector: Detector, contents: list[bytes], rate: float, seconds: float) -> None:
    alone = bare(detector, contents, seconds / 2)
    asked = open_loop(address, contents, _own_scores(detector, contents), rate, seconds)
    print(asked.row(f"open loop, {rate:.1f} pictures/s", alone), flush=True)


def _own_scores(detector: Detector, contents: Sequence[bytes]) -> Scores:
    return {1: [bare_score(detector, content) for content in contents]}


def with_detector(work: Callable[[Path, Detector, bytes], None]) -> None:
    """Calls `work` with an empty folder, a detector and a picture."""
    contents = [png(np.random.default_rng(number)) for number in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        work(Path(folder), untrained("inp_former", contents), contents[0])


def bare_score(detector: Detector, content: bytes) -> float:
    """What a replica of the model computes, without anything around it."""
    image: Image.Image = open_image(content, "picture").convert("RGB")
    prediction = detector.predict([image], [CATEGORY])
    score = float(prediction.scores[0])
    detector.decide(score, prediction.maps[0], prediction.looks[0], image.size, CATEGORY)
    return score


def bare(detector: Detector, contents: list[bytes], seconds: float) -> Asked:
    """One picture after the other."""
    asked, begun = Asked(), time.perf_counter()
    while asked.wall < seconds:
        now = time.perf_counter()
        bare_score(detector, contents[len(asked.seconds) % len(contents)])
        asked.seconds.append(time.perf_counter() - now)
        asked.wall = time.perf_counter() - begun
    return asked


def register(folder: Path, detectors: Sequence[Detector]) -> str:
    """The address of a registry in the folder whose versions 1, 2, … they are; the first is the champion."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    experiment = client.create_experiment("benchmark", (folder / "artifacts").as_uri())
    client.create_registered_model(MODEL)
    for number, detector in enumerate(detectors):
        detector.save(folder / f"detector-{number}" / Path(DETECTOR_FOLDER).name)
        run = client.create_run(experiment)
        place = str(Path("model") / Path(DETECTOR_FOLDER).parent)
        client.log_artifacts(run.info.run_id, str(folder / f"detector-{number}"), place)
        client.create_model_version(MODEL, f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_registered_model_alias(MODEL, ALIAS, "1")
    return uri


@contextmanager
def served(folder: Path, uri: str) -> Iterator[str]:
    """The address of the service on a registry."""
    port = free_port()
    command = [sys.executable, "-m", "serving", f"--port={port}", "--tracking-uri", uri, "--keep", f"{folder}/keep"]
    began = time.perf_counter()
    service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert service.stdout is not None
        if not service.stdout.readline():
            raise UserError("the service did not start: what it said stands above.")
        print(f"ready after {time.perf_counter() - began:.0f} s\n")
        yield f"http://127.0.0.1:{port}/v1/predict"
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait()


def free_port() -> int:
    """Of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def closed_loop(address: str, contents: list[bytes], scores: Scores, clients: int, seconds: float) -> Asked:
    """So many clients, of which each asks when it was answered."""

    def work(client: httpx.Client, asked: Asked, number: int, begun: float) -> None:
        while time.perf_counter() < begun + seconds:
            ask(client, address, contents, scores, number, time.perf_counter(), asked)
            number += 1

    return _with_clients(clients, work)


def open_loop(address: str, contents: list[bytes], scores: Scores, rate: float, seconds: float) -> Asked:
    """A picture each 1 / `rate` seconds, whatever became of the ones before."""
    due, lock = iter(range(int(rate * seconds))), threading.Lock()

    def work(client: httpx.Client, asked: Asked, number: int, begun: float) -> None:
        while True:
            with lock:
                turn = next(due, None)
            if turn is None:
                return
            at = begun + turn / rate
            time.sleep(max(0.0, at - time.perf_counter()))
            ask(client, address, contents, scores, turn, at, asked)

    return _with_clients(32, work)


def ask(
    client: httpx.Client, address: str, contents: list[bytes], scores: Scores, number: int, at: float, asked: Asked
) -> None:
    """One picture, which was due `at`. Raises UserError for another score than the bare loop's by the same version."""
    which = number % len(contents)
    answer = client.post(address, content=contents[which])
    if answer.status_code != 200:
        asked.refused += 1
        return
    asked.seconds.append(time.perf_counter() - at)
    verdict = answer.json()
    right = scores[verdict["model_version"]][which]
    asked.versions[verdict["model_version"]] += 1
    if abs(verdict["score"] - right) > TOLERANCE * max(1.0, abs(right)):
        raise UserError(f"picture {which}: the service scores {verdict['score']}, the bare loop {right}.")


def _with_clients(count: int, work: Callable[[httpx.Client, Asked, int, float], None]) -> Asked:
    asked = Asked()
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        # Before the clock: each loads the certificates of its own, a second of processor for 32.
        clients = [stack.enter_context(httpx.Client(timeout=120)) for _ in range(count)]
        begun = time.perf_counter()
        list(pool.map(lambda number: work(clients[number], asked, number, begun), range(count)))
        asked.wall = time.perf_counter() - begun
    return asked
