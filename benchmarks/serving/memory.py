"""The processes of the service that this one started, and their private memory."""

import time
from collections import defaultdict

import psutil

LASTING = ("Inspector", "Ingress", "ProxyActor", "ServeController")
SETTLE_SECONDS = 5.0


def lasting() -> list[tuple[str, int]]:
    """The processes that are to live as long as the service."""
    return sorted((name, process.pid) for process, name in _own().items() if name in LASTING)


def memory() -> dict[str, float]:
    """Private megabytes of each kind of process, once it is quiet."""
    time.sleep(SETTLE_SECONDS)
    total: dict[str, float] = defaultdict(float)
    for process, name in _own().items():
        try:
            total[name] += process.memory_full_info().uss / 2**20
        except psutil.Error:  # it ended
            continue
    return dict(total)


def memory_table(private: dict[str, dict[str, float]]) -> list[str]:
    """In Markdown: private megabytes, a column a time."""
    names = sorted({name for each in private.values() for name in each})
    rows = [
        f"| {name} | " + " | ".join(f"{each.get(name, 0):.0f}" for each in private.values()) + " |" for name in names
    ]
    return ["| private MB | " + " | ".join(private) + " |", "|---" * (len(private) + 1) + "|", *rows]


def _own() -> dict[psutil.Process, str]:
    """The processes of the service that this one started, each with a name."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        name = next((each for each in LASTING if words and words[0].startswith("ray::") and each in words[0]), None)
        found[process] = name or ("decoders" if "serving.decoder" in words else "the others")
    return found
