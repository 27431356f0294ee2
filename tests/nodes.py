"""A Ray cluster of several nodes on this machine, each a process group of its own that can be killed like a machine."""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.s3_server import free_ports

START_SECONDS = 120
RAY = str(Path(sys.executable).with_name("ray"))


class Nodes:
    """A head without CPUs, for drivers and Ray's own, and nodes of one CPU that come and go."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self.folder = folder
        port, client_port = free_ports(2)
        self.address = f"127.0.0.2:{port}"
        self.environment = {
            "RAY_ADDRESS": self.address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
            **environment,
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        options = ["--head", f"--port={port}", f"--ray-client-server-port={client_port}", "--num-cpus=0"]
        self._start("127.0.0.2", [*options, "--include-dashboard=false"])

    def add(self, ip: str) -> None:
        """A node of one CPU."""
        self._start(ip, [f"--address={self.address}", "--num-cpus=1"])

    def _start(self, ip: str, options: list[str]) -> None:
        command = [RAY, "start", "--block", f"--node-ip-address={ip}", "--min-worker-port=0", "--max-worker-port=0"]
        command += ["--object-store-memory=80000000", "--disable-usage-stats", *options]
        log = self.folder / f"{ip}.log"
        with log.open("wb") as f:
            self._processes[ip] = subprocess.Popen(
                command, env={**os.environ, **self.environment}, stdout=f, stderr=f, start_new_session=True
            )
        end = time.monotonic() + START_SECONDS
        while b"Ray runtime started" not in log.read_bytes():
            if self._processes[ip].poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no Ray node:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)

    def workers(self, ip: str) -> list[int]:
        """The process ids of the train workers on a node."""
        return [pid for pid in _session(self._processes[ip].pid) if b"RayTrainWorker" in _command(pid)]

    def kill(self, ip: str) -> None:
        """Ends a node and all that runs on it at once, as a power cut would."""
        process = self._processes.pop(ip)
        for pid in _session(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def drain(self, ip: str, seconds: int) -> None:
        """Gives notice that a node will be taken away in so many seconds."""
        (node,) = {
            word for pid in _session(self._processes[ip].pid) for word in re.findall(rb"--node_id=(\w+)", _command(pid))
        }
        options = ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=a test", f"--node-id={node.decode()}"]
        options += [f"--deadline-remaining-seconds={seconds}", f"--address={self.address}"]
        environment = {**os.environ, **self.environment}
        subprocess.run([RAY, "drain-node", *options], env=environment, capture_output=True, check=True)

    def close(self) -> None:
        """Kills everything."""
        for ip in reversed(list(self._processes)):
            self.kill(ip)


def _session(leader: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getsid(int(folder.name)) == leader:
                found.append(int(folder.name))
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
