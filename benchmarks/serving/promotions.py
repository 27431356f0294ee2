"""Whether the champion moves under load without a request being refused, or answered by no version's own score."""

import tempfile
import threading
from pathlib import Path

import numpy as np
from mlflow import MlflowClient

from benchmarks.latency.measure import png, untrained
from benchmarks.serving.measure import ALIAS, MODEL, PICTURES, bare_score, closed_loop, open_loop, register, served

MOVES = (2, 3, 2)  # two promotions, and the second taken back
SHARE_OF_THROUGHPUT = 0.8
CLIENTS, WARM_SECONDS = 4, 10.0


def run(seconds: float) -> None:
    """Asks for so many seconds, moves the alias in between, and prints what came of it."""
    rng = np.random.default_rng(0)
    contents = [png(rng) for _ in range(PICTURES)]
    detectors = [untrained("inp_former", contents, seed) for seed in range(max(MOVES))]
    scores = {n: [bare_score(each, content) for content in contents] for n, each in enumerate(detectors, start=1)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uri = register(folder, detectors)
        client = MlflowClient(uri, uri)
        with served(folder, uri) as address:
            most = closed_loop(address, contents, scores, CLIENTS, WARM_SECONDS).rate
            times = [seconds * turn / (len(MOVES) + 1) for turn in range(1, len(MOVES) + 1)]
            timers = [
                threading.Timer(at, client.set_registered_model_alias, (MODEL, ALIAS, str(version)))
                for at, version in zip(times, MOVES, strict=True)
            ]
            for timer in timers:
                timer.start()
            asked = open_loop(address, contents, scores, SHARE_OF_THROUGHPUT * most, seconds)
            for timer in timers:
                timer.join()
    by = ", ".join(f"{count} by version {version}" for version, count in sorted(asked.versions.items()))
    p50, p99 = (f"{1e3 * value:.0f}" for value in np.percentile(asked.seconds, (50, 99)))
    print(f"{asked.rate:.1f} of {most:.1f} pictures/s, p50 {p50} ms, p99 {p99} ms: {by}; {asked.refused} refused.")
    print("Every score was that of the version that the answer names.")
