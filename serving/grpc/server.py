"""Serves `inference.GRPCInferenceService`: each call is one HTTP request to the service's /v2."""

import asyncio
import json
import signal
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from pydantic import ValidationError
from yarl import URL

from serving.answers import LATEST_DEADLINE_MS, Problem, RequestError
from serving.grpc.messages import SERVICE, message
from serving.grpc.settings import Bridge
from serving.grpc.tensors import to_grpc, to_http
from serving.port import check_free
from serving.upload import BODY_SECONDS
from serving.v2 import JSON_LENGTH

AT_A_TIME = 32  # inferences whose pictures are held
CALLS = 2 * AT_A_TIME  # with those that ask how the service is
BESIDE_PICTURES = 2**16  # bytes of a message
CHUNK = 2**20
ASK_SECONDS = LATEST_DEADLINE_MS / 1000 + 10
STOP_SECONDS = LATEST_DEADLINE_MS / 1000 + 5
LONGEST_NAME, LONGEST_REASON = 200, 1000  # what does not fit into an address, and what clients take of metadata
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# Of gRPC's text on retries (gRFC A6), which some clients keep of their own accord.
RETRY = "grpc-retry-pushback-ms"

Work = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Any]]


@dataclass(frozen=True)
class _Answer:
    """Of the service."""

    status: int
    retry_after: str | None
    content: bytes

    def refusal(self) -> RequestError:
        """Why it is no 200."""
        try:
            problem = Problem.model_validate_json(self.content)
        except ValidationError:  # by Ray Serve's proxy, or something else that listens there
            problem = Problem(error=self.content.decode(errors="replace") or f"the service answers {self.status}.")
        retry = self.retry_after or ""
        seconds = int(retry) if retry.isdecimal() else None
        return RequestError(self.status, problem.error, problem.decision, seconds, bool(problem.full))

    def said(self) -> Any:
        """The JSON of a 200."""
        if self.status != 200:
            raise self.refusal()
        return json.loads(self.content)


class Inference:
    """The calls of the protocol."""

    def __init__(self, bridge: Bridge, session: aiohttp.ClientSession) -> None:
        self._bridge = bridge
        self._session = session
        self._under_way = 0

    def handlers(self) -> grpc.GenericRpcHandler:
        """Of all calls."""
        calls: dict[str, Work] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
        }
        # To a client these are calls with one message. As streams their messages are read here, in a bounded time.
        handlers = {
            name: grpc.stream_unary_rpc_method_handler(
                self._call(name, work), response_serializer=message(f"{name}Response").SerializeToString
            )
            for name, work in calls.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _call(self, name: str, work: Work) -> Callable[[AsyncIterator[bytes], Any], Awaitable[Any]]:
        async def call(messages: AsyncIterator[bytes], context: Any) -> Any:
            try:
                with self._place() if name == "ModelInfer" else nullcontext():
                    return await work(await _message(f"{name}Request", messages), context)
            except RequestError as error:
                await _abort(context, error)
            except (AttributeError, KeyError, TypeError, ValueError, struct.error):  # of what no service of ours says
                reason = f"{self._bridge.service} does not speak the Open Inference Protocol: is it another server?"
                await _abort(context, RequestError(500, reason))

        return call

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._under_way == AT_A_TIME:
            reason = f"{AT_A_TIME} inferences are under way: try again in a moment."
            raise RequestError(503, reason, retry_after=1, full=True)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def _server_live(self, request: Any, context: Any) -> Any:
        said = (await self._get("health/live")).said()
        return message("ServerLiveResponse")(live=said["live"])

    async def _server_ready(self, request: Any, context: Any) -> Any:
        return message("ServerReadyResponse")(ready=await self._is_ready("health/ready"))

    async def _model_ready(self, request: Any, context: Any) -> Any:
        return message("ModelReadyResponse")(ready=await self._is_ready(f"{_model(request.name)}/ready"))

    async def _is_ready(self, path: str) -> bool:
        answer = await self._get(path)
        return answer.status != 503 and bool(answer.said()["ready"])

    async def _server_metadata(self, request: Any, context: Any) -> Any:
        said = (await self._get("")).said()
        # What the HTTP form has beside the protocol is not here.
        return message("ServerMetadataResponse")(name=said["name"], version=said["version"])

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        return message("ModelMetadataResponse")(**(await self._get(_model(request.name))).said())

    async def _model_infer(self, request: Any, context: Any) -> Any:
        path = f"{_model(request.model_name)}/infer"
        head, tensors = to_http(request)
        raw = bool(request.raw_input_contents)
        del request  # or its pictures are held twice
        left = context.time_remaining()
        query = {} if left is None else {"deadline_ms": str(min(LATEST_DEADLINE_MS, max(1, int(1000 * left))))}
        length = len(head) + sum(map(len, tensors))
        headers = {JSON_LENGTH: str(len(head)), "Content-Length": str(length)}
        if key := dict(context.invocation_metadata() or ()).get("authorization"):
            headers["Authorization"] = str(key)

        async def body() -> AsyncIterator[bytes]:
            yield head
            while tensors:  # what was sent is the service's to hold
                tensor = tensors.pop(0)
                for start in range(0, len(tensor), CHUNK):
                    yield tensor[start : start + CHUNK]

        answer = await self._ask("POST", path, params=query, headers=headers, data=body())
        return to_grpc(answer.said(), raw)

    async def _get(self, path: str) -> _Answer:
        return await self._ask("GET", path)

    async def _ask(self, method: str, path: str, **request: Any) -> _Answer:
        """Cancelled, it closes its connection, by which the service knows that nobody waits."""
        address = URL(f"{self._bridge.service}/v2/{path}".rstrip("/"), encoded=True)
        try:
            async with self._session.request(method, address, allow_redirects=False, **request) as answer:
                return _Answer(answer.status, answer.headers.get("retry-after"), await answer.read())
        except TimeoutError:
            raise RequestError(504, f"{self._bridge.service} gave no answer: try again.", retry_after=1) from None
        except aiohttp.ClientError as error:
            reason = f"{self._bridge.service} does not answer ({type(error).__name__}): try again once it runs."
            raise RequestError(503, reason, retry_after=1) from None


async def _message(name: str, messages: AsyncIterator[bytes]) -> Any:
    """The first one of a call."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for content in messages:
                return message(name).FromString(content)
    except TimeoutError:
        raise RequestError(408, f"the call's message did not arrive within {BODY_SECONDS:g} s.") from None
    except DecodeError:
        raise RequestError(400, f"the call's message is no {name} of the Open Inference Protocol.") from None
    raise RequestError(400, "the call has no message.")


async def _abort(context: Any, error: RequestError) -> None:
    code = CODES.get(error.status, grpc.StatusCode.UNKNOWN)
    if error.full:
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
    metadata = []
    if error.retry_after is not None:
        metadata.append((RETRY, str(1000 * error.retry_after)))
    if error.decision is not None:
        metadata.append(("decision", error.decision))
    await context.abort(code, error.reason[:LONGEST_REASON], tuple(metadata))


def _model(name: str) -> str:
    if not 0 < len(name) <= LONGEST_NAME:
        raise RequestError(404, f"there is no model {name[:LONGEST_NAME]!r} here.")
    return f"models/{quote(name, safe='')}"


def run(bridge: Bridge) -> None:
    """Until Ctrl-C or SIGTERM. Raises UserError where it cannot listen."""
    asyncio.run(_serve(bridge))


async def _serve(bridge: Bridge) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    # A connection a call: of one that is kept, a call may meet the end.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(ASK_SECONDS)) as session:
        server = grpc.aio.server(
            maximum_concurrent_rpcs=CALLS,
            options=[
                ("grpc.max_receive_message_length", int(bridge.max_upload_mb * 2**20) + BESIDE_PICTURES),
                ("grpc.so_reuseport", 0),  # or a second bridge would share the port
            ],
        )
        server.add_generic_rpc_handlers((Inference(bridge, session).handlers(),))
        _listen(server, bridge)
        await server.start()
        print(f"{SERVICE} of {bridge.service} at {bridge.listen}", flush=True)
        await stopping.wait()
        await server.stop(STOP_SECONDS)
        # gRPC's own tasks end a moment later: one that is cancelled before says so with a traceback.
        if rest := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(rest, timeout=1)


def _listen(server: grpc.aio.Server, bridge: Bridge) -> None:
    where = urlsplit(f"//{bridge.listen}")
    # gRPC itself would not say why.
    check_free(where.hostname or "", where.port or 0, "another --listen")
    if bridge.certificate is None or bridge.private_key is None:
        server.add_insecure_port(bridge.listen)
    else:
        pair = Path(bridge.private_key).read_bytes(), Path(bridge.certificate).read_bytes()
        server.add_secure_port(bridge.listen, grpc.ssl_server_credentials([pair]))
