"""What Serve's proxy refuses by itself is JSON."""

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import psutil
import pytest
from starlette.types import ASGIApp

from serving.proxy import InJson
from tests.serving.model_store import eventually
from tests.serving.pictures import as_file, picture

PLAIN, JSON = b"text/plain; charset=utf-8", b"application/json"


def answer(app: ASGIApp, kind: str = "http") -> list[dict[str, Any]]:
    """What a client of `InJson` around the application hears."""
    heard: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        heard.append(dict(message))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    anyio.run(InJson(app), {"type": kind}, receive, send)
    return heard


def says(status: int, kind: bytes, *bodies: bytes) -> ASGIApp:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        for number, body in enumerate(bodies, start=1):
            await send({"type": "http.response.body", "body": body, "more_body": number < len(bodies)})

    return app


@pytest.mark.parametrize(("status", "later"), [(404, None), (408, b"1"), (500, None), (503, b"1")])
def test_plain_text_becomes_json(status: int, later: bytes | None) -> None:
    start, body = answer(says(status, PLAIN, b"what Serve ", b"says"))
    headers = dict(start["headers"])
    assert (start["status"], headers[b"content-type"], headers.get(b"retry-after")) == (status, JSON, later)
    assert int(headers[b"content-length"]) == len(body["body"])
    said = json.loads(body["body"])
    assert set(said) == {"error"}
    assert ("what Serve says" in said["error"]) == (later is None)


@pytest.mark.parametrize(("status", "kind"), [(200, PLAIN), (503, JSON), (422, JSON), (204, b"")])
def test_all_else_passes_as_it_is(status: int, kind: bytes) -> None:
    start, first, second = answer(says(status, kind, b"a", b"b"))
    assert (start["status"], start["headers"]) == (status, [(b"content-type", kind)])
    assert (first["body"], second["body"]) == (b"a", b"b")


def test_no_answer_is_one_that_may_come_later() -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        return

    start, body = answer(nothing)
    assert (start["status"], dict(start["headers"])[b"retry-after"]) == (503, b"1")
    assert "error" in json.loads(body["body"])
    assert answer(nothing, "lifespan") == []


def test_a_request_whose_replica_is_killed_may_come_again(service: httpx.Client) -> None:
    begun = threading.Event()

    def slow() -> Iterator[bytes]:
        yield as_file(picture())[:100]
        begun.set()
        killed.wait()
        yield b"the rest"

    killed, answers = threading.Event(), []
    asking = threading.Thread(target=lambda: answers.append(service.post("/v1/predict?category=nut", content=slow())))
    asking.start()
    assert begun.wait(60)
    eventually(lambda: re.search(r"inpformer_requests_under_way\{.*\} 1", service.get("/metrics").text))
    (replica,) = (
        each.pid
        for each in psutil.Process().children(recursive=True)
        if each.cmdline() and each.cmdline()[0].startswith("ray::ServeReplica:inpformer:Ingress")
    )
    os.kill(replica, signal.SIGKILL)
    killed.set()
    asking.join()
    assert (answers[0].status_code, answers[0].headers["retry-after"]) == (503, "1")
    assert set(answers[0].json()) == {"error"}
    eventually(lambda: service.get("/readyz").status_code == 200)
