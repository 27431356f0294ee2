"""Does the service stand what hostile clients send? Thousands of requests, each another, then clients that are slow."""

import asyncio
import http.client
import json
import os
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np

from benchmarks.latency.measure import CATEGORY
from benchmarks.serving import bodies
from benchmarks.serving.bodies import Target
from benchmarks.serving.measure import MODEL, register, served
from benchmarks.serving.memory import lasting, memory, memory_table
from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from serving.webhook import SECRET_VARIABLE

CLIENTS, PATIENCE_SECONDS = 8, 90.0
SLOW_CLIENTS, SLOW_STEP_SECONDS = 200, 1.0
# What cannot be read as HTTP is refused before the service sees it.
OF_THE_PROXY = ("route", "headers", "framing", "webhook", "parameter")
EXAMPLES = 20


@dataclass(frozen=True)
class Answer:
    """`status` is 0 where there is none, and `text` says why."""

    status: int
    text: str
    retry_after: bool = False

    @property
    def column(self) -> str:
        """Of the table."""
        if self.status == 0:
            return "no answer"
        if self.status == 503:
            return "503"
        family = f"{self.status // 100}xx"
        return family if family != "4xx" or self.is_json else "4xx, plain"

    @property
    def is_json(self) -> bool:
        """Whether it is as the service's own refusals are."""
        try:
            return bool(json.loads(self.text)["error"])
        except (KeyError, TypeError, ValueError):
            return False

    def is_allowed(self, kind: str) -> bool:
        """For a request of this kind."""
        if kind == "good":
            return self.status == 200 or self._is_full
        if self.column in ("4xx, plain", "no answer"):
            return kind in OF_THE_PROXY
        return self.column in ("2xx", "4xx") or self._is_full or (kind, self.status) == ("deadline", 504)

    @property
    def _is_full(self) -> bool:
        return self.status == 503 and self.is_json and self.retry_after


@dataclass
class Found:
    """Of each kind how many answers, and what should not have been."""

    counts: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    plain: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, kind: str, number: int, answer: Answer) -> None:
        """One answer."""
        self.counts[kind][answer.column] += 1
        if answer.column in ("4xx, plain", "no answer"):
            self.plain[f"{kind}: {answer.status or ''} {answer.text[:60]!r}"] += 1
        if not answer.is_allowed(kind):
            self.wrong.append(f"{kind} {number}: {answer.status} {answer.text[:300]!r}")

    def table(self) -> str:
        """In Markdown."""
        columns = sorted({column for counts in self.counts.values() for column in counts})
        lines = ["| sent | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for kind, counts in self.counts.items():
            lines.append(f"| {kind} | " + " | ".join(str(counts[column] or "") for column in columns) + " |")
        return "\n".join(lines)


def run(folder: Path, detector: Detector, count: int, seed: int, seconds: float) -> None:
    """Sends `count` requests, has slow clients for so many `seconds`, and prints what came of it. Raises UserError
    where something was answered as it should not be, or a process is another one.
    """
    os.environ.setdefault(SECRET_VARIABLE, "a secret")  # else no webhook is read
    with served(folder, register(folder, [detector])) as predict:
        address, target = predict.removesuffix("/v1/predict"), Target(MODEL, CATEGORY)
        before, found = lasting(), Found()
        began = time.monotonic()
        private = {}
        for first, last in ((0, count // 10), (count // 10, count // 2), (count // 2, count)):
            send_all(address, target, range(first, last), seed, found)
            private[f"after {last} requests"] = memory()
        took = time.monotonic() - began
        print(f"{count} requests in {took:.0f} s, seed {seed}\n\n{found.table()}\n")
        print("\n".join(f"- {number} × {what}" for what, number in found.plain.most_common(EXAMPLES)), "\n")
        print(asyncio.run(slow(address, target, seconds)), "\n", flush=True)
        private["after the slow clients"] = memory()
        print("\n".join(memory_table(private)))
        if lasting() != before:
            found.wrong.append(f"processes: {before} became {lasting()}")
    if found.wrong:
        print("\n" + "\n".join(found.wrong[:EXAMPLES]))
        raise UserError(f"{len(found.wrong)} answers should not have been: the first stand above.")


def send_all(address: str, target: Target, numbers: Iterable[int], seed: int, found: Found) -> None:
    """By some clients at a time."""

    def one(number: int) -> tuple[str, int, Answer]:
        kind, request = bodies.request(seed, number, target)
        return kind, number, send(address, request)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for kind, number, answer in pool.map(one, numbers):
            found.add(kind, number, answer)


def send(address: str, request: bodies.Request) -> Answer:
    """What becomes of one request, on a connection of its own."""
    parts = urlsplit(address)
    with socket.create_connection((str(parts.hostname), parts.port or 80), PATIENCE_SECONDS) as connection:
        with suppress(OSError):  # it may have been answered before it was read to its end
            connection.sendall(request.wire(parts.netloc))
        answer = http.client.HTTPResponse(connection, method=request.method)
        try:
            answer.begin()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, type(error).__name__)
    if request.method == "HEAD":
        text = '{"error": "HEAD"}'
    return Answer(answer.status, text, answer.getheader("retry-after") is not None)


async def slow(address: str, target: Target, seconds: float) -> str:
    """Clients that send a byte of their headers, or of their body, now and then; and how one that is not slow fares
    beside them.
    """
    good = bodies.Request(target.predict, bodies.picture())
    waits: list[float] = []
    refused = 0
    parts = urlsplit(address)
    head, _, body = good.wire(parts.netloc).partition(b"\r\n\r\n")
    async with asyncio.TaskGroup() as group, httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        ways = ((head, b""), (head + b"\r\n\r\n", body))
        tasks = [
            group.create_task(_drip(str(parts.hostname), parts.port or 80, *ways[number % 2], seconds))
            for number in range(SLOW_CLIENTS)
        ]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            answer = await client.post(address + target.predict, content=body)
            waits.append(time.monotonic() - began)
            refused += answer.status_code != 200
            await asyncio.sleep(SLOW_STEP_SECONDS)
    of_headers, of_bodies = (Counter(task.result() for task in tasks[first::2]) for first in (0, 1))
    p50, most = 1e3 * np.median(waits), 1e3 * max(waits)
    return (
        f"{SLOW_CLIENTS} slow clients for {seconds:g} s: headers {dict(of_headers)}, bodies {dict(of_bodies)}; beside "
        f"them {len(waits)} good pictures, {refused} refused, median {p50:.0f} ms, longest {most:.0f} ms."
    )


async def _drip(host: str, port: int, first: bytes, rest: bytes, seconds: float) -> str:
    """Of a client whose headers never end (`rest` is empty), or whose body comes byte by byte: what it was told."""
    reader, writer = await asyncio.open_connection(host, port)
    told = asyncio.create_task(reader.read(200))
    writer.write(first)
    end, sent = time.monotonic() + seconds, 0
    try:
        while time.monotonic() < end and not told.done():
            writer.write(rest[sent : sent + 1] or b"\r\nX: y")
            sent += 1
            await asyncio.wait([told], timeout=SLOW_STEP_SECONDS)
        if not told.done():
            return "still open"
        return told.result().partition(b"\r\n")[0].decode() or "closed"
    except OSError as error:
        return type(error).__name__
    finally:
        told.cancel()
        writer.close()
