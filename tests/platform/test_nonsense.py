"""A registry's address where something else answers: one sentence, and nothing is written."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Nonsense(ThreadingHTTPServer):
    """Answers all that is asked with `body`, and remembers what would have written."""

    body = b""
    written: list[str]


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        server = self.server
        assert isinstance(server, Nonsense)
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.command != "GET":
            server.written.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        self.wfile.write(server.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def nonsense() -> Iterator[Nonsense]:
    server = Nonsense(("127.0.0.1", 0), Handler)
    server.written = []
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("command", "body"),
    [
        ("promote", b"<html>hello</html>"),
        ("promote", b'{"registered_model": 5}'),
        ("promote", b""),
        ("audit", b"[1, 2]"),
    ],
)
def test_what_is_no_mlflow_is_named(nonsense: Nonsense, tmp_path: Path, command: str, body: bytes) -> None:
    nonsense.body = body
    shutil.copy(ROOT / "params.yaml", tmp_path)
    arguments = ["--force", "a test"] if command == "promote" else ["verify"]
    done = subprocess.run(
        [sys.executable, "-m", f"pipelines.{command}", *arguments],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{nonsense.server_address[1]}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert nonsense.written == []
