"""The gRPC bridge before the real service, asked by Triton's own client; and what it says while the service is away,
slow, full or another server.
"""

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from serving.answers import RequestError
from serving.grpc import server
from serving.grpc.messages import message
from serving.grpc.server import AT_A_TIME, RETRY
from serving.grpc.tensors import to_http
from tests.relay import Relay, relay
from tests.serving.certificates import self_signed
from tests.serving.model_store import DEADLINE, MODEL, eventually, free_port
from tests.serving.pictures import as_file, picture

ROOT = Path(__file__).resolve().parents[2]
GOOD = as_file(picture())
CODE = grpc.StatusCode


def fields(descriptor: Any) -> dict[str, Any]:
    """Of a message, by name: number, type, whether it is repeated, and of a message its fields."""
    return {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            field.containing_oneof and field.containing_oneof.name,
            field.message_type and (field.message_type.full_name, fields(field.message_type)),
        )
        for field in descriptor.fields
    }


@pytest.mark.parametrize("kind", ["Request", "Response"])
@pytest.mark.parametrize(
    "call", ["ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"]
)
def test_messages_are_those_of_the_protocol(call: str, kind: str) -> None:
    ours, theirs = message(call + kind).DESCRIPTOR, getattr(service_pb2, call + kind).DESCRIPTOR
    assert (ours.full_name, fields(ours)) == (theirs.full_name, fields(theirs))
    assert call in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name


class Bridge:
    """The command, with what it says."""

    def __init__(self, service: str, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._said = folder / "said"
        command = [sys.executable, "-m", "serving.grpc", "--listen", self.address, "--service", service, *options]
        with self._said.open("w") as out:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
        eventually(lambda: "GRPCInferenceService" in self.said or self.process.poll() is not None)

    @property
    def said(self) -> str:
        return self._said.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)


@contextmanager
def bridged(service: str, folder: Path, *options: str) -> Iterator[Bridge]:
    bridge = Bridge(service, folder, *options)
    try:
        yield bridge
        assert "Traceback" not in bridge.said
    finally:
        bridge.process.kill()
        bridge.process.wait()


@pytest.fixture(scope="module")
def bridge(service: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with bridged(str(service.base_url), tmp_path_factory.mktemp("bridge")) as bridge:
        yield bridge


@pytest.fixture(scope="module")
def client(bridge: Bridge) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(bridge.address) as client:
        yield client


def tensor(name: str, *elements: bytes) -> triton.InferInput:
    made = triton.InferInput(name, [len(elements)], "BYTES")
    made.set_data_from_numpy(np.array(elements, dtype=np.object_))
    return made


def in_contents(*pictures: bytes, name: str = "image", **more: Any) -> Any:
    """A request with its pictures element by element, as clients of KServe send them."""
    request = service_pb2.ModelInferRequest(model_name=MODEL, **more)
    made = request.inputs.add(name=name, datatype="BYTES", shape=[len(pictures)])
    made.contents.bytes_contents.extend(pictures)
    request.parameters["category"].string_param = "bolt"
    return request


@contextmanager
def channel(address: str, size: int = -1) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address, [("grpc.max_send_message_length", size)]) as channel:
        yield channel


def stub(channel: grpc.Channel) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]


def refused(call: Callable[[], Any]) -> Any:
    """The error of a call: its code, details and trailing metadata."""
    with pytest.raises(grpc.RpcError) as found:
        call()
    return found.value


def without_times(verdict: str | bytes) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(verdict)
    return read | {"timings_ms": None}


def test_a_client_of_triton_is_answered_as_over_http(
    client: triton.InferenceServerClient, service: httpx.Client
) -> None:
    pictures = [as_file(picture(seed)) for seed in (0, 1)]
    asked = {"part": "A 17", "line": "press-2"}
    answer = client.infer(
        MODEL, [tensor("image", *pictures), tensor("category", b"nut")], request_id="7", parameters=asked
    )
    query = asked | {"category": "nut"}
    wanted = [service.post("/v1/predict", params=query, content=each).text for each in pictures]
    assert [without_times(each) for each in answer.as_numpy("verdict")] == [without_times(each) for each in wanted]
    assert answer.as_numpy("decision").tolist() == [b"FAIL", b"FAIL"]
    scores = np.array([json.loads(each)["score"] for each in wanted], np.float32)
    np.testing.assert_array_equal(answer.as_numpy("score"), scores)
    response = answer.get_response()
    assert (response.id, response.model_name) == ("7", MODEL)
    assert response.model_version == str(json.loads(wanted[0])["model_version"])


def test_the_server_and_the_model_say_what_they_are(
    client: triton.InferenceServerClient, service: httpx.Client
) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.get_server_metadata().name == service.get("/v2").json()["name"]
    described, wanted = client.get_model_metadata(MODEL), service.get(f"/v2/models/{MODEL}").json()
    assert (described.name, list(described.versions)) == (wanted["name"], wanted["versions"])
    for found, named in ((described.inputs, wanted["inputs"]), (described.outputs, wanted["outputs"])):
        assert [(one.name, one.datatype, list(one.shape)) for one in found] == [tuple(one.values()) for one in named]


def test_pictures_element_by_element_are_answered_so(bridge: Bridge) -> None:
    request = in_contents(GOOD, GOOD, id="7")
    request.outputs.add(name="decision")
    request.outputs.add(name="threshold")
    with channel(bridge.address) as to:
        answer = stub(to).ModelInfer(request)
    decision, threshold = answer.outputs
    assert list(decision.contents.bytes_contents) == [b"PASS", b"PASS"]
    assert list(threshold.contents.fp32_contents) == [2.0, 2.0]
    assert (list(answer.raw_output_contents), answer.id) == ([], "7")


def test_one_of_several_outputs(client: triton.InferenceServerClient) -> None:
    outputs = [triton.InferRequestedOutput("score")]
    answer = client.infer(MODEL, [tensor("image", GOOD)], outputs=outputs, parameters={"category": "bolt"})
    assert [one.name for one in answer.get_response().outputs] == ["score"]
    assert answer.as_numpy("decision") is None


def many(field: str, count: int) -> Any:
    request = in_contents(GOOD)
    for number in range(count):
        if field == "parameters":
            request.parameters[str(number)].bool_param = True
        else:
            getattr(request, field).add()
    return request


WRONG: dict[str, tuple[Any, grpc.StatusCode]] = {
    "no picture": (in_contents(b"no picture"), CODE.INVALID_ARGUMENT),
    "no inputs": (service_pb2.ModelInferRequest(model_name=MODEL), CODE.INVALID_ARGUMENT),
    "other input": (in_contents(GOOD, name="mask"), CODE.INVALID_ARGUMENT),
    "too many": (in_contents(*[GOOD] * 17), CODE.INVALID_ARGUMENT),
    "more than fits": (in_contents(bytes(2**20 + 1)), CODE.RESOURCE_EXHAUSTED),
    "many inputs": (many("inputs", 3000), CODE.INVALID_ARGUMENT),
    "many outputs": (many("outputs", 3000), CODE.INVALID_ARGUMENT),
    "many parameters": (many("parameters", 3000), CODE.INVALID_ARGUMENT),
    "raw and inputs differ": (in_contents(GOOD, raw_input_contents=[b"", b""]), CODE.INVALID_ARGUMENT),
    "raw is no tensor": (in_contents(GOOD, raw_input_contents=[b"\xff" * 8]), CODE.INVALID_ARGUMENT),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_judged_has_a_code_and_a_sentence(bridge: Bridge, case: str) -> None:
    request, code = WRONG[case]
    with channel(bridge.address) as to:
        error = refused(lambda: stub(to).ModelInfer(request))
        assert (error.code(), error.details()[-1]) == (code, ".")
        assert RETRY not in dict(error.trailing_metadata())  # later it is wrong too


@pytest.mark.parametrize("name", ["another", "", ".", "..", "a/../../../v1/predict?x=", "ü" * 200, "x" * 100_000])
def test_another_model_is_not_found(bridge: Bridge, name: str) -> None:
    request = in_contents(GOOD)
    request.model_name = name
    with channel(bridge.address) as to:
        for call in (
            lambda: stub(to).ModelInfer(request),
            lambda: stub(to).ModelReady(service_pb2.ModelReadyRequest(name=name)),
            lambda: stub(to).ModelMetadata(service_pb2.ModelMetadataRequest(name=name)),
        ):
            assert refused(call).code() == CODE.NOT_FOUND


def test_a_parameter_that_is_wrong_is_refused_by_its_name(client: triton.InferenceServerClient) -> None:
    for parameters, code in (({"category": "none"}, "INVALID_ARGUMENT"), ({"line": 1}, "INVALID_ARGUMENT")):
        with pytest.raises(InferenceServerException) as found:
            client.infer(MODEL, [tensor("image", GOOD)], parameters=parameters)
        assert found.value.status() == f"StatusCode.{code}"
        assert next(iter(parameters)) in found.value.message()


@pytest.mark.parametrize("call", ["ModelInfer", "ServerLive"])
def test_what_is_no_message_is_refused(bridge: Bridge, call: str) -> None:
    with channel(bridge.address) as to:
        raw = to.unary_unary(f"/inference.GRPCInferenceService/{call}")
        assert refused(lambda: raw(b"\xff" * 10)).code() == CODE.INVALID_ARGUMENT


def test_a_message_that_is_larger_than_an_upload_is_not_read(bridge: Bridge, client: Any) -> None:
    for compression in (None, grpc.Compression.Gzip):  # a bomb
        with channel(bridge.address) as to:
            error = refused(lambda: stub(to).ModelInfer(in_contents(bytes(2**25)), compression=compression))  # noqa: B023
        assert error.code() == CODE.RESOURCE_EXHAUSTED
    assert client.is_server_live()


def test_a_message_that_does_not_arrive_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> AsyncIterator[bytes]:
        await asyncio.sleep(DEADLINE)
        yield b""

    monkeypatch.setattr(server, "BODY_SECONDS", 0.05)
    with pytest.raises(RequestError) as found:
        asyncio.run(server._message("ModelInferRequest", never()))
    assert found.value.status == 408


def test_a_call_without_a_message_is_refused(bridge: Bridge) -> None:
    with channel(bridge.address) as to:
        call = to.stream_unary("/inference.GRPCInferenceService/ModelInfer")
        assert refused(lambda: call(iter([]))).code() == CODE.INVALID_ARGUMENT


def test_millions_of_dimensions_are_refused_before_they_are_read() -> None:
    request = in_contents(GOOD)
    request.inputs[0].shape.extend([1] * 3)
    with pytest.raises(RequestError) as found:
        to_http(request)
    assert found.value.status == 400


class Told:
    """A server that says what it is told to, and knows what it was asked."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, dict[str, str](), b"{}"
        self.asked: list[str] = []
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told.asked.append(self.path)
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(told.status)
                for name, value in told.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(told.body)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *said: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    told = Told()
    yield told
    told.close()


@pytest.fixture(scope="module")
def before_told(told: Told, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with bridged(told.address, tmp_path_factory.mktemp("told")) as bridge:
        yield bridge


@pytest.mark.parametrize(
    ("status", "headers", "body", "code", "metadata"),
    [
        (503, {"Retry-After": "3"}, {"error": "x.", "full": True}, CODE.RESOURCE_EXHAUSTED, {RETRY: "3000"}),
        (503, {"Retry-After": "5"}, {"error": "x."}, CODE.UNAVAILABLE, {RETRY: "5000"}),
        (504, {"Retry-After": "1"}, {"error": "x."}, CODE.DEADLINE_EXCEEDED, {RETRY: "1000"}),
        (408, {}, {"error": "x."}, CODE.DEADLINE_EXCEEDED, {}),
        (500, {}, {"error": "x.", "decision": "FAIL"}, CODE.INTERNAL, {"decision": "FAIL"}),
        (503, {"Retry-After": "soon"}, {"error": "x."}, CODE.UNAVAILABLE, {}),
        (418, {}, {"error": "x."}, CODE.UNKNOWN, {}),
    ],
)
def test_a_refusal_is_passed_on(
    told: Told,
    before_told: Bridge,
    status: int,
    headers: dict[str, str],
    body: dict[str, Any],
    code: grpc.StatusCode,
    metadata: dict[str, str],
) -> None:
    told.status, told.headers, told.body = status, headers, json.dumps(body).encode()
    with channel(before_told.address) as to:
        error = refused(lambda: stub(to).ModelInfer(in_contents(GOOD)))
    assert (error.code(), error.details()) == (code, "x.")
    assert {key: value for key, value in error.trailing_metadata() if key in (RETRY, "decision")} == metadata


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"hello"), (200, b"{}"), (200, b"[1]"), (500, b"<html>" * 10_000), (500, b"\xff"), (302, b"")],
)
def test_another_server_is_an_error(told: Told, before_told: Bridge, status: int, body: bytes) -> None:
    told.status, told.headers, told.body = status, {"Location": "/v1/predict"}, body
    with channel(before_told.address) as to:
        for call in (
            lambda: stub(to).ModelInfer(in_contents(GOOD)),
            lambda: stub(to).ServerReady(service_pb2.ServerReadyRequest()),
            lambda: stub(to).ServerMetadata(service_pb2.ServerMetadataRequest()),
        ):
            assert refused(call).code() in (CODE.INTERNAL, CODE.UNKNOWN)
    assert before_told.process.poll() is None


def test_a_service_that_is_not_ready_is_so(told: Told, before_told: Bridge) -> None:
    told.status, told.headers, told.body = 503, {"Retry-After": "5"}, b'{"error": "no model is loaded."}'
    with triton.InferenceServerClient(before_told.address) as client:
        assert not client.is_server_ready()
        assert not client.is_model_ready(MODEL)


def test_a_deadline_is_the_services_too(told: Told, before_told: Bridge) -> None:
    told.status, told.headers, told.body = 400, {}, b'{"error": "x."}'
    # gRPC rounds a timeout up, to a hundred milliseconds of as many.
    for timeout, least, most in ((None, None, None), (20, 15_000, 20_200), (1000, 60_000, 60_000)):
        with channel(before_told.address) as to:
            refused(lambda: stub(to).ModelInfer(in_contents(GOOD), timeout=timeout))  # noqa: B023
        found = re.search(r"deadline_ms=(\d+)$", told.asked[-1])
        assert (found is None) == (least is None)
        assert found is None or least <= int(found[1]) <= most


@pytest.fixture
def held(service: httpx.Client) -> Iterator[Relay]:
    """A way to the service on which no answer comes back until it is opened."""
    with relay(str(service.base_url).rstrip("/"), 0) as held:
        yield held


def clients_gone(held: Relay) -> bool:
    return all(each.fileno() == -1 for each in held._sockets[1:])


@pytest.mark.parametrize("how", ["deadline", "cancelled"])
def test_who_no_longer_waits_is_not_worked_for(held: Relay, tmp_path: Path, how: str) -> None:
    with bridged(held.endpoint, tmp_path) as bridge, channel(bridge.address) as to:
        call = stub(to).ModelInfer.future(in_contents(GOOD), timeout=3 if how == "deadline" else DEADLINE)
        assert held.held.wait(DEADLINE)
        if how == "cancelled":
            call.cancel()
        else:
            assert refused(call.result).code() == CODE.DEADLINE_EXCEEDED
        eventually(lambda: clients_gone(held))


def test_so_many_at_a_time(held: Relay, tmp_path: Path) -> None:
    with bridged(held.endpoint, tmp_path) as bridge, channel(bridge.address) as to:
        calls = [stub(to).ModelInfer.future(in_contents(GOOD)) for _ in range(AT_A_TIME)]
        assert held.held.wait(DEADLINE)
        error = refused(lambda: stub(to).ModelInfer(in_contents(GOOD), timeout=DEADLINE))
        assert (error.code(), dict(error.trailing_metadata())[RETRY]) == (CODE.RESOURCE_EXHAUSTED, "1000")
        held.open()
        assert {call.result().outputs[0].contents.bytes_contents[0] for call in calls} == {b"PASS"}
        assert stub(to).ModelInfer(in_contents(GOOD)).outputs  # they gave their places back


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_under_way_is_answered_when_it_is_stopped(held: Relay, tmp_path: Path, number: int) -> None:
    with bridged(held.endpoint, tmp_path) as bridge, channel(bridge.address) as to:
        call = stub(to).ModelInfer.future(in_contents(GOOD))
        assert held.held.wait(DEADLINE)
        bridge.process.send_signal(number)

        def is_refused() -> bool:
            with channel(bridge.address) as another:
                live = stub(another).ServerLive.future(service_pb2.ServerLiveRequest(), timeout=1)
                return bool(live.code() == CODE.UNAVAILABLE)

        eventually(is_refused)
        held.open()
        assert call.result().outputs[0].contents.bytes_contents[0] == b"PASS"
        assert bridge.process.wait(DEADLINE) == 0
        assert bridge.said.splitlines()[-1] == "stopped"


def test_a_key_goes_on_to_the_service(guarded: httpx.Client, ring: dict[str, str], tmp_path: Path) -> None:
    with bridged(str(guarded.base_url).rstrip("/"), tmp_path) as bridge, channel(bridge.address) as to:
        ask = in_contents(GOOD)
        assert refused(lambda: stub(to).ModelInfer(ask)).code() == CODE.UNAUTHENTICATED
        press = [("authorization", f"Bearer {ring['press']}")]
        assert stub(to).ModelInfer(ask, metadata=press).model_name == MODEL
        ask.parameters["line"].string_param = "press-3"
        assert refused(lambda: stub(to).ModelInfer(ask, metadata=press)).code() == CODE.PERMISSION_DENIED


def test_a_service_that_is_away_is_unavailable_until_it_is_there(service: httpx.Client, tmp_path: Path) -> None:
    port = free_port()
    with bridged(f"http://127.0.0.1:{port}", tmp_path) as bridge, channel(bridge.address) as to:
        error = refused(lambda: stub(to).ModelInfer(in_contents(GOOD)))
        assert (error.code(), str(port) in error.details()) == (CODE.UNAVAILABLE, True)
        assert dict(error.trailing_metadata())[RETRY] == "1000"
        assert refused(lambda: stub(to).ServerLive(service_pb2.ServerLiveRequest())).code() == CODE.UNAVAILABLE
        with relay(str(service.base_url).rstrip("/"), port=port):
            assert stub(to).ServerLive(service_pb2.ServerLiveRequest()).live
        assert bridge.stop() == 0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The files of a certificate for localhost, and of its key."""
    (_, certificate, _, key), _ = self_signed(tmp_path_factory.mktemp("tls"))
    return Path(certificate), Path(key)


def test_tls(service: httpx.Client, pair: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = map(str, pair)
    with bridged(str(service.base_url), tmp_path, "--certificate", certificate, "--private-key", key) as bridge:
        address = f"localhost:{bridge.port}"
        with triton.InferenceServerClient(address, ssl=True, root_certificates=certificate) as client:
            assert client.is_server_live()
        with triton.InferenceServerClient(address) as client, pytest.raises(InferenceServerException):
            client.is_server_live(client_timeout=3)


def ended(*options: str) -> subprocess.CompletedProcess[str]:
    """The command, which ends by itself."""
    command = [sys.executable, "-m", "serving.grpc", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--listen", "8001"], "--listen"),
        (["--listen", "127.0.0.1"], "--listen"),
        (["--listen", "127.0.0.1:0"], "--listen"),
        (["--listen", "127.0.0.1:99999"], "--listen"),
        (["--listen", "unix:/tmp/socket"], "--listen"),
        (["--listen", "127.0.0.1:8001/x"], "--listen"),
        (["--listen", "192.0.2.1:8001"], "--listen"),
        (["--service", "127.0.0.1:8000"], "--service"),
        (["--max-upload-mb", "0"], "--max-upload-mb"),
        (["--max-upload-mb", "nan"], "--max-upload-mb"),
        (["--certificate", "CERTIFICATE"], "--private-key"),
        (["--certificate", "CERTIFICATE", "--private-key", "nowhere.pem"], "nowhere.pem"),
        (["--certificate", "KEY", "--private-key", "CERTIFICATE"], "--certificate"),
    ],
)
def test_impossible_options_are_one_sentence(options: list[str], named: str, pair: tuple[Path, Path]) -> None:
    files = {"CERTIFICATE": str(pair[0]), "KEY": str(pair[1])}
    result = ended(*[files.get(option, option) for option in options])
    assert (result.returncode, result.stderr.count("\n"), named in result.stderr) == (1, 1, True), result.stderr


def test_two_bridges_do_not_share_a_port(bridge: Bridge) -> None:
    result = ended("--listen", bridge.address)
    assert (result.returncode, result.stderr.count("\n"), "--listen" in result.stderr) == (1, 1, True), result.stderr
