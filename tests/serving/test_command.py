"""`python -m serving`: what it refuses at its start, and how it serves until it is interrupted."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import grpc
import httpx
import psutil
import pytest

from serving.loading import load_first
from serving.registry import Registry
from serving.settings import Settings
from tests.serving.certificates import self_signed
from tests.serving.model_store import ALIAS, DEADLINE, MODEL, ModelStore, eventually, free_port, samples
from tests.serving.pictures import as_file, picture

ROOT = Path(__file__).resolve().parents[2]
GOOD = as_file(picture())


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "serving", *options]


def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        ended = subprocess.run(command("--port", port), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"error: cannot listen on 127.0.0.1:{port} (Address already in use)")
    assert ended.stderr.count("\n") == 1


def test_ray_address_where_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    ended = subprocess.run(
        command("--port", str(free_port())), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE
    )
    assert ended.returncode == 1
    assert "where no Ray answers" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--help"], 0),
        (["--port", "x"], 2),
        (["--port", "0"], 1),
        (["--poll-seconds", "0"], 1),
        (["--max-upload-mb", "-1"], 1),
        (["--keys", ""], 1),
        (["--verify-key", ""], 1),
        (["--keep", ""], 1),
    ],
)
def test_help_and_refusals_of_options_import_nothing_heavy(options: list[str], status: int) -> None:
    code = (
        "import sys\nfrom serving.__main__ import main\nsys.argv = ['serving', *sys.argv[1:]]\n"
        "try:\n    main()\nfinally:\n"
        "    heavy = {'torch', 'timm', 'ray', 'mlflow'} & set(sys.modules)\n    assert not heavy, heavy"
    )
    port = [] if "--port" in options else ["--port", str(free_port())]
    ended = subprocess.run(
        [sys.executable, "-c", code, *port, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (status, False), ended.stderr


def processes_of(uri: str) -> list[int]:
    """Whose environment names this registry: the service, and everything that Ray started for it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if uri.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:  # gone meanwhile
            continue
    return found


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # gone meanwhile
        return b""


def test_a_certificate_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    options, _ = self_signed(tmp_path)
    (tmp_path / "other").mkdir()
    others, _ = self_signed(tmp_path / "other")
    port = str(free_port())
    for wrong in (options[:2], options[2:], (*options[:2], *others[2:]), (*options[:2], options[2], "gone.pem")):
        ended = subprocess.run(command("--port", port, *wrong), cwd=tmp_path, capture_output=True, text=True)
        assert (ended.returncode, ended.stderr.count("\n"), ended.stderr[:6]) == (1, 1, "error:")


# Of Ray's head, of an actor, and of a Serve replica, which would unpickle what it is sent.
CALLS = (
    "ray.rpc.NodeInfoGcsService/CheckAlive",
    "ray.rpc.CoreWorkerService/PushTask",
    "ray.serve.ASGIService/HandleRequest",
)


def let_in_from_outside(uri: str) -> dict[str, set[str]]:
    """By call, how the service's ports that are not on loopback alone answer somebody who has no token."""
    found: dict[str, set[str]] = {}
    for process in processes_of(uri):
        for each in psutil.Process(process).net_connections("inet"):
            if each.status != psutil.CONN_LISTEN or ipaddress.ip_address(each.laddr.ip).is_loopback:
                continue
            host = "127.0.0.1" if ipaddress.ip_address(each.laddr.ip).is_unspecified else each.laddr.ip
            for call in CALLS:
                with grpc.insecure_channel(f"{host}:{each.laddr.port}") as channel:
                    try:
                        channel.unary_unary(f"/{call}")(b"", timeout=10)
                        found.setdefault(call, set()).add("OK")
                    except grpc.RpcError as error:
                        found.setdefault(call, set()).add(error.code().name)
            with suppress(httpx.HTTPError):
                status = httpx.get(f"http://{host}:{each.laddr.port}/metrics", timeout=10).status_code
                found.setdefault("HTTP", set()).add(str(status))
    return found


def test_command_serves_until_interrupted_and_starts_without_its_registry(store: ModelStore, tmp_path: Path) -> None:
    version = store.client.get_model_version_by_alias(MODEL, ALIAS).version
    keep = tmp_path / "keep"
    load_first(Registry(store.uri), Settings(model=MODEL, tracking_uri=store.uri, keep=str(keep)), Lock())
    database = Path(store.uri.removeprefix("sqlite:///"))
    content = database.read_bytes()
    database.write_bytes(b"no database" * 1000)
    port = free_port()
    environment = os.environ | {"MLFLOW_TRACKING_URI": store.uri}
    environment.pop("RAY_ADDRESS", None)
    secured, trusting = self_signed(tmp_path)
    output, errors = tmp_path / "output", tmp_path / "errors"
    with output.open("w") as out, errors.open("w") as err:
        options = ("--port", str(port), "--keep", str(keep), "--poll-seconds", "0.2", *secured)
        service = subprocess.Popen(
            command(*options), cwd=ROOT, env=environment, stdout=out, stderr=err, start_new_session=True
        )

    client = httpx.Client(base_url=f"https://127.0.0.1:{port}", timeout=DEADLINE, verify=trusting)

    def health() -> Any:
        return client.get("/healthz").json()

    def slow_picture() -> Iterator[bytes]:
        yield GOOD[:100]
        eventually(lambda: samples(client)[("inpformer_requests_under_way", ())] == 1)
        os.killpg(service.pid, signal.SIGINT)  # to the whole group, as a terminal does
        eventually(lambda: client.get("/readyz").status_code == 503)
        late.append(httpx.post(f"{client.base_url}/v1/predict?category=bolt", content=GOOD, verify=trusting))
        yield GOOD[100:]

    late: list[httpx.Response] = []

    try:
        eventually(lambda: output.read_text() or service.poll() is not None)
        assert service.poll() is None, errors.read_text()
        alone = health()
        answers = let_in_from_outside(store.uri)
        (replica,) = [pid for pid in processes_of(store.uri) if b"ServeReplica:inpformer:Inspector" in command_of(pid)]
        os.kill(replica, signal.SIGKILL)
        killed = time.monotonic()
        refused = client.post("/v1/predict?category=bolt&deadline_ms=1000", content=GOOD)
        waited = time.monotonic() - killed
        eventually(lambda: client.post("/v1/predict?category=bolt", content=GOOD).status_code == 200)
        database.write_bytes(content)
        eventually(lambda: health()["update_error"] is None)
        ask = f"{client.base_url}/v1/predict?category=bolt"
        under_way = httpx.post(ask, content=slow_picture(), timeout=DEADLINE, verify=trusting)
        status = service.wait(timeout=DEADLINE)
    finally:
        database.write_bytes(content)
        service.kill()
        client.close()
    assert (under_way.status_code, under_way.json()["decision"]) == (200, "PASS")
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in late] == [(503, "5")]
    # What follows is Ray's own, of the replica that was killed.
    assert output.read_text().splitlines()[0] == f"serving {MODEL} version {version} at https://127.0.0.1:{port}"
    assert (alone["status"], alone["model_version"], status) == ("ok", int(version), 0)
    assert (refused.status_code, "retry-after" in refused.headers) in {(503, True), (504, True)}, refused.text
    assert waited < 20  # by a clock of a busy machine: it was asked to wait for 1
    assert all("UNAUTHENTICATED" in answers[call] for call in CALLS), answers
    assert not {"OK", "200", "INTERNAL", "UNKNOWN"} & set().union(*answers.values()), answers
    assert "does not answer" in alone["update_error"]
    assert "does not answer" in errors.read_text()
    assert "Traceback" not in errors.read_text()
    eventually(lambda: not processes_of(store.uri))
