"""The demo's way: the pipeline, promotion, the service, one image that nobody has seen, its decision as a picture."""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from PIL import Image

from inpformer.errors import UserError
from inpformer.images.opening import open_image
from inpformer.images.transform import read_image
from pipelines.evaluate import pictures
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import Row, read_manifest
from pipelines.platform.command import search_path
from pipelines.platform.params import read_section

MANIFEST = Path("artifacts/manifest.parquet")
OVERLAY = Path("demo-out/overlay.png")
START_SECONDS = 180
STOP_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """What the service said of one image, and its anomaly map as a picture [256, 256]."""

    json: dict[str, Any]
    map: Image.Image


def run(*command: str) -> None:
    """Runs one command of the README with its output shown. Raises UserError if it fails."""
    print(f"\n$ {' '.join(command)}", flush=True)
    done = subprocess.run(command, env={**os.environ, "PATH": search_path()}, check=False)
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` ended with status {done.returncode}: mend what it says, run again.")


def promote() -> None:
    """Asks the gate. The demo goes on where that refuses, as its data may be too few to say, and records why."""
    try:
        run("python", "-m", "pipelines.promote")
    except UserError:
        run("python", "-m", "pipelines.promote", "--force", "the demo shows the service whatever the gate says")


@contextlib.contextmanager
def service() -> Iterator[str]:
    """Serves the champion on a free port of loopback; yields its address; stops it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "serving", "--port", str(port)]
    print(f"\n$ python {' '.join(command[1:])}", flush=True)
    # A session of its own: Ctrl-C reaches the demo, which then stops the service in an orderly way.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        yield _wait_until_ready(process, f"http://127.0.0.1:{port}")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_until_ready(process: subprocess.Popen[bytes], address: str) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"the service ended with status {process.returncode} before it was ready: see above.")
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{address}/healthz", timeout=5).ok:
                return address
        time.sleep(0.5)
    raise UserError(f"the service was not ready after {START_SECONDS} s: run `python -m serving` and see why.")


def ask(address: str, image: Path, category: str) -> Answer:
    """Posts an image file. Raises UserError if the service refuses it."""
    response = requests.post(
        f"{address}/v1/predict",
        params={"category": category, "map": "true"},
        data=image.read_bytes(),
        headers={"Content-Type": "application/octet-stream"},
        timeout=120,
    )
    if not response.ok:
        raise UserError(f"the service answered {response.status_code}: {response.text}")
    answer = response.json()
    return Answer(answer, open_image(base64.b64decode(answer.pop("map_png")), "map_png"))


def unseen_defect(rows: list[Row]) -> Row:
    """The first defective image of the test set: no stage before `evaluate` has looked at it."""
    return next(row for row in rows if row.label)


def walk() -> None:
    """Runs the demo and prints its JSON line."""
    began = time.monotonic()
    data = read_section("manifest", ManifestSettings).data
    print(f"data {data} -> dvc repro -> promote -> serve -> one unseen defective image", flush=True)
    run("dvc", "repro")
    promote()
    manifest = read_manifest(MANIFEST)
    row = unseen_defect(manifest.split("test"))
    path = manifest.root / row.path
    with service() as address:
        print(f"\nPOST {address}/v1/predict?category={row.category}  <- {path}", flush=True)
        answer = ask(address, path, row.category)
        print(json.dumps(answer.json, indent=2), flush=True)
    pictures.overlay(read_image(path).convert("RGB"), answer.map, answer.json, OVERLAY)
    print(f"\n{OVERLAY}: image, anomaly map, outlined regions; the whole took {time.monotonic() - began:.0f} s")
    wanted = ("category", "score", "threshold", "decision", "model_version")
    print(
        json.dumps({"image": path.as_posix(), **{k: answer.json[k] for k in wanted}, "overlay": OVERLAY.as_posix()}),
        flush=True,
    )
