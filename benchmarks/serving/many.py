"""Does the service stay as it is over very many good pictures?"""

import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.latency.measure import CATEGORY, png, untrained
from benchmarks.serving import bodies
from benchmarks.serving.hostile import send
from benchmarks.serving.measure import MODEL, register, served
from benchmarks.serving.memory import lasting, memory, memory_table
from inpformer.errors import UserError

CLIENTS, PICTURES, SIZE = 4, 4, 64
PARTS = 10


def run(count: int) -> None:
    """Sends so many, each on a connection of its own, to a small detector, and prints the memory after each tenth.
    Raises UserError where one was not judged, or a process is another one.
    """
    rng = np.random.default_rng(0)
    contents = [png(rng) for _ in range(PICTURES)]
    requests = [bodies.Request(bodies.Target(MODEL, CATEGORY).predict, content) for content in contents]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uri = register(folder, [untrained("inp_former", contents, size=SIZE)])
        with served(folder, uri) as predict:
            address, private = predict.removesuffix("/v1/predict"), {}
            statuses: Counter[int] = Counter()
            began, before = time.monotonic(), lasting()
            for part in range(PARTS):
                numbers = range(count * part // PARTS, count * (part + 1) // PARTS)
                statuses.update(_send_all(address, requests, numbers))
                private[f"{numbers.stop}"] = now = memory()
                sizes = ", ".join(f"{name} {size:.0f}" for name, size in sorted(now.items()))
                print(
                    f"{numbers.stop} after {time.monotonic() - began:.0f} s: {dict(statuses)}; MB: {sizes}", flush=True
                )
            after = lasting()
        print("\n" + "\n".join(memory_table(private)))
    if statuses.keys() != {200} or after != before:
        raise UserError(f"answers {dict(statuses)}, processes {before} became {after}.")


def _send_all(address: str, requests: list[bodies.Request], numbers: Iterable[int]) -> Counter[int]:
    with ThreadPoolExecutor(CLIENTS) as pool:
        return Counter(pool.map(lambda number: send(address, requests[number % len(requests)]).status, numbers))
