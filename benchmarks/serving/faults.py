"""How long the service is away after one of its processes was killed, and what its clients are told meanwhile."""

import time
from collections import Counter
from pathlib import Path

import httpx
import psutil

from benchmarks.serving.measure import register, served
from inpformer.judging.detector import Detector

KILLED = ("Inspector", "Ingress", "ProxyActor", "ServeController")
DEADLINE_MS, PATIENCE_SECONDS, GOOD_IN_A_ROW, MOST_SECONDS = 4000, 6.0, 10, 180.0


def run(folder: Path, detector: Detector, content: bytes) -> None:
    """Kills one after the other, with the registry's database broken, and prints a row each."""
    with served(folder, register(folder, [detector])) as address:
        (folder / "mlflow.db").write_bytes(b"no database" * 1000)
        print("| killed | good answers again after, s | answers meanwhile |\n|---|---|---|")
        for name in KILLED:
            _process(name).kill()
            seconds, answers = recovery(address, content)
            told = ", ".join(f"{count} × {answer}" for answer, count in answers.items())
            print(f"| {name} | {seconds:.1f} | {told or 'none was lost'} |", flush=True)


def recovery(address: str, content: bytes) -> tuple[float, Counter[str]]:
    """Seconds until the first of so many good answers in a row, and the others, by status or error."""
    killed, good, since, told = time.monotonic(), 0, 0.0, Counter[str]()
    while good < GOOD_IN_A_ROW and time.monotonic() - killed < MOST_SECONDS:
        try:
            answer = httpx.post(address, content=content, params={"deadline_ms": DEADLINE_MS}, timeout=PATIENCE_SECONDS)
            status = str(answer.status_code)
        except httpx.HTTPError as error:
            status = type(error).__name__
        if status == "200":
            since = since if good else time.monotonic() - killed
            good += 1
        else:
            good, told[status] = 0, told[status] + 1
        time.sleep(0.2)
    return since, told


def _process(name: str) -> psutil.Process:
    """Of this process's own service: others may run beside it."""
    for process in psutil.Process().children(recursive=True):
        command = process.cmdline()
        if command and command[0].startswith("ray::") and name in command[0]:
            return process
    raise LookupError(name)
