"""A real Ray head for the tests, started as on a cluster: `ray start`, with a token, on loopback and free ports."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.s3_server import S3Server

START_SECONDS = 120
IP = "127.0.0.2"  # 127.0.0.1 would be replaced by the address of the machine's network card
PORTS = (
    *("port", "dashboard-port", "ray-client-server-port", "node-manager-port", "object-manager-port"),
    *("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port", "runtime-env-agent-port"),
)


class RayHead:
    """One `ray start --head` in a process group of its own; `environment` is its nodes' own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, token = folder / "ray", folder / "token"
        token.write_text(secrets.token_hex(32))
        ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        self.address = f"{IP}:{ports['port']}"
        self.jobs = f"http://127.0.0.1:{ports['dashboard-port']}"
        self.client = {  # what a user's shell needs to be let in
            **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
        }
        command = [
            *("ray", "start", "--head", "--block", f"--node-ip-address={IP}", "--dashboard-host=127.0.0.1"),
            *("--min-worker-port=0", "--max-worker-port=0", "--num-cpus=2", f"--temp-dir={self.folder}"),
            *(f"--{name}={port}" for name, port in ports.items()),
        ]
        self._log = folder / "head.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env={**self.client, **environment}, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        """Returns when it takes jobs."""
        end = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in self._log.read_text():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no Ray head:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """Ends it at once; what it started ends with it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="session")
def ray_head(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[RayHead]:
    """One head for the session. Its nodes know S3's keys and the registry, as a cluster's do; clients do not."""
    # Sockets lie in Ray's folder, and their paths are 107 characters at most.
    folder = tmp_path_factory.mktemp("head")
    registry = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "RAY_JOB_STOP_WAIT_TIME_S": "60"}
    head = RayHead(folder, {**s3_server.environment, **registry})
    try:
        head.wait()
        yield head
    finally:
        head.kill()
