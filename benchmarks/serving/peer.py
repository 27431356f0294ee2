"""The same detector behind LitServe, which is installed by who measures it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx

from benchmarks.serving.measure import free_port
from inpformer.errors import UserError

READY_SECONDS = 120


def check_installed() -> None:
    """Raises UserError if there is no LitServe."""
    if find_spec("litserve") is None:
        raise UserError(
            "LitServe is not installed: install litserve beside this project's packages, or leave --peer out."
        )


@contextmanager
def served_by_peer(folder: Path) -> Iterator[str]:
    """The address of LitServe on the detector in `folder`."""
    port = free_port()
    began = time.perf_counter()
    serving = "from pathlib import Path; from benchmarks.serving.litserver import serve; "
    code = f"{serving}serve(Path({str(folder)!r}), {port})"
    service = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        while not _is_ready(port):
            if service.poll() is not None or time.perf_counter() > began + READY_SECONDS:
                raise UserError("LitServe did not start: what it said stands above.")
            time.sleep(0.2)
        print(f"LitServe: ready after {time.perf_counter() - began:.0f} s\n")
        yield f"http://127.0.0.1:{port}/predict"
    finally:
        os.killpg(service.pid, signal.SIGKILL)  # it would start its workers again
        service.wait()


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    except httpx.TransportError:
        return False
