"""A real MLflow server for the tests, on SQLite, that can be killed and started again at the same address."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.s3_server import free_ports

START_SECONDS = 180


class MlflowServer:
    """One server over `folder`; its address stays the same over `kill` and `start`."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        self.uri = f"http://127.0.0.1:{port}"
        self._folder, self._port = folder, port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and returns at once; `wait` says when it answers."""
        command = [str(Path(sys.executable).with_name("mlflow")), "server", "--host=127.0.0.1", f"--port={self._port}"]
        command += ["--workers=1", f"--backend-store-uri=sqlite:///{self._folder}/mlflow.db"]
        command += [f"--artifacts-destination={self._folder}/artifacts"]
        with (self._folder / "mlflow.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Returns when it answers."""
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                if time.monotonic() > end or (self._process and self._process.poll() is not None):
                    raise RuntimeError(f"no MLflow:\n{(self._folder / 'mlflow.log').read_text()[-3000:]}") from None
                time.sleep(0.2)

    def kill(self) -> None:
        """Ends it at once, as a power cut would."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
