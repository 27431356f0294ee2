"""The headers of a request have bounds, in uvicorn as Serve's proxy runs it."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving import headers
from serving.headers import MOST_BYTES, PIECE_BYTES, BoundedHeaders
from tests.serving.model_store import DEADLINE, eventually


async def echo(request: Request) -> Response:
    """The body, after so many seconds as are asked for."""
    content = await request.body()
    await asyncio.sleep(float(request.query_params.get("seconds", 0)))
    return Response(content)


@pytest.fixture
def server() -> Iterator[int]:
    """A port."""
    app = Starlette(routes=[Route("/", echo, methods=["GET", "POST"])])
    config = uvicorn.Config(app, http=BoundedHeaders, port=0, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
        running.start()
        eventually(lambda: server.started)
        yield listening.getsockname()[1]
        server.should_exit = True
        running.join()


def answers(port: int, sent: bytes) -> bytes:
    """All that the server says until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as connection:
        heard = b""
        with suppress(ConnectionError):  # it may be closed before all is sent
            connection.sendall(sent)
        with suppress(ConnectionError):
            while data := connection.recv(2**16):
                heard += data
        return heard


def request(size: int) -> bytes:
    """The beginning of one, of so many bytes, without the end of its headers."""
    beginning = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: "
    return beginning + b"a" * (size - len(beginning))


def test_headers_up_to_the_bound_are_taken(server: int) -> None:
    assert answers(server, request(MOST_BYTES - 4) + b"\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("line", [b"a", b"\r\nx: y"])
def test_larger_ones_are_refused_and_no_more_is_read(server: int, line: bytes) -> None:
    begun = request(MOST_BYTES // 2)
    more = (line * MOST_BYTES)[: MOST_BYTES // 2 + PIECE_BYTES + 1]
    said = answers(server, begun + more)
    head, body = said.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431")
    assert b"content-type: application/json" in head
    assert str(MOST_BYTES) in json.loads(body)["error"]


@pytest.mark.parametrize("sent", [b"", b"G", b"\r\n", request(100)])
def test_headers_that_do_not_end_are_refused_in_time(server: int, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "SECONDS", 0.2)
    assert answers(server, sent).startswith(b"HTTP/1.1 408")


def test_bodies_and_later_requests_of_a_connection_are_not_bounded_by_them(
    server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headers, "SECONDS", 0.2)
    with httpx.Client(base_url=f"http://127.0.0.1:{server}", timeout=DEADLINE) as client:
        content = bytes(range(256)) * (2**14)
        for _ in range(3):
            assert client.post("/", content=content).content == content

    def slow() -> Iterator[bytes]:
        yield b"a"
        late.wait(0.5)  # longer than headers may take
        yield b"b"

    late = threading.Event()
    assert httpx.post(f"http://127.0.0.1:{server}", content=slow(), timeout=DEADLINE).content == b"ab"


def test_the_second_request_of_a_connection_is_bounded_too(server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "SECONDS", 0.2)
    first = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
    for second, status in ((b"GET / HT", b"408"), (request(MOST_BYTES * 2), b"431")):
        said = answers(server, first + second)
        assert said.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 " + status in said


def test_the_answer_before_is_not_cut(server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "SECONDS", 0.1)
    first = b"POST /?seconds=0.5 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
    said = answers(server, first + b"GET / HT")
    assert said.startswith(b"HTTP/1.1 200")
    assert b"abcHTTP/1.1 408" in said


def test_requests_in_one_read_have_their_answers(server: int) -> None:
    first = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
    said = answers(server, first * 20 + first.replace(b"host: a", b"host: a\r\nconnection: close"))
    assert said.count(b"HTTP/1.1 200") == 21


def test_serves_proxy_has_the_bounds(service: httpx.Client) -> None:
    port = service.base_url.port
    assert port
    assert answers(port, request(2**20)).startswith(b"HTTP/1.1 431")
    assert answers(port, request(2**12) + b"\r\n\r\n").startswith(b"HTTP/1.1 200")
