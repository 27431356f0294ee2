"""The station with a camera, which is a pipeline of the real GStreamer, and with a PLC that triggers it."""

import os
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from serving.station.handshake import Inputs
from tests.serving.model_store import eventually, free_port
from tests.serving.station import BOLT, PRODUCTS, ModbusPlc, Station, acknowledge, assert_refused, sees

pytestmark = pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="no gst-launch-1.0 on this machine")
LIVE = "videotestsrc is-live=true pattern=solid-color ! video/x-raw,format=GRAY8,width=64,height=48,framerate=100/1"
NO_PICTURE = 2


@dataclass(frozen=True)
class Scene:
    """What a camera sees: a file of one frame, which is read 50 times a second. `row` is a row's bytes in the file."""

    file: Path
    format: str
    width: int
    height: int
    row: int

    @property
    def pipeline(self) -> str:
        form = f"video/x-raw,format={self.format},width={self.width},height={self.height},framerate=50/1"
        return f"multifilesrc location={self.file} loop=true caps={form} ! identity sync=true"

    def show(self, value: int) -> None:
        pixel = value.to_bytes(2, "little") if "16" in self.format else bytes([value])
        content = (pixel * (self.row // len(pixel)))[: self.row] * self.height
        unfinished = self.file.with_suffix(".new")
        unfinished.write_bytes(content)
        unfinished.replace(self.file)


def with_plc(folder: Path, service: httpx.Client, plc: ModbusPlc, camera: str, *options: str) -> Station:
    return Station(folder, str(service.base_url), *PRODUCTS, "--modbus", plc.address, "--camera", camera, *options)


def processes(station: Station) -> list[int]:
    """Those that the station started."""
    pid = station.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in children.split()]


def bytes_read(station: Station) -> int:
    """From files and pipes."""
    said = Path(f"/proc/{station.process.pid}/io").read_text()
    return int(said.split()[1])


def trigger(plc: ModbusPlc) -> None:
    plc.write(Inputs(trigger=True, product=BOLT))


def seen(station: Station, number: int) -> Image.Image:
    """The picture that was judged at that place, with its verdict."""
    assert eventually(lambda: len(station.done()) == number)
    return Image.open(sorted((station.folder / "done").glob("*.tif"))[-1])


@pytest.mark.parametrize(
    ("format", "width", "height", "row", "mode", "unit"),
    [
        ("GRAY8", 640, 480, 640, "L", 1),
        ("GRAY16_LE", 61, 45, 124, "I;16", 251),  # a dozen fit into the pipe, and rows are filled up
        ("RGB", 63, 48, 192, "RGB", 1),
    ],
)
def test_a_frame_is_exposed_after_its_trigger_and_bit_for_bit(
    tmp_path: Path, service: httpx.Client, format: str, width: int, height: int, row: int, mode: str, unit: int
) -> None:
    scene, plc = Scene(tmp_path / "scene", format, width, height, row), ModbusPlc()
    scene.show(0)
    with with_plc(tmp_path, service, plc, scene.pipeline) as station, plc:
        for number in range(1, 5):
            sees(plc, ready=True)
            scene.show(number * unit)
            trigger(plc)
            sees(plc, result_valid=True, ok=True, sequence=number)
            picture = seen(station, number)
            assert (picture.mode, picture.size) == (mode, (width, height))
            assert set(np.asarray(picture).flat) == {number * unit}
            acknowledge(plc)
        assert [one["plc"]["product"] for one in station.done()] == [BOLT] * 4


def test_a_camera_that_the_plc_fires_brings_the_next_frame_and_none_of_before(
    tmp_path: Path, service: httpx.Client
) -> None:
    plc, port, size = ModbusPlc(), free_port(), 64 * 48
    form = "video/x-raw,format=GRAY8,width=64,height=48,framerate=0/1"
    camera = f"udpsrc address=127.0.0.1 port={port} caps={form}"
    with (
        with_plc(tmp_path, service, plc, camera, "--fired") as station,
        plc,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fire,
    ):
        for number in (1, 2):
            before = bytes_read(station)
            fire.sendto(bytes(size), ("127.0.0.1", port))  # by mistake
            eventually(lambda before=before: bytes_read(station) >= before + size)
            trigger(plc)
            sees(plc, busy=True)
            fire.sendto(bytes([number]) * size, ("127.0.0.1", port))
            sees(plc, result_valid=True, ok=True)
            assert set(np.asarray(seen(station, number)).flat) == {number}
            acknowledge(plc)


def test_a_camera_that_hangs_or_dies_is_an_error_and_is_started_again(tmp_path: Path, service: httpx.Client) -> None:
    plc = ModbusPlc()
    with with_plc(tmp_path, service, plc, LIVE, "--patience", "2") as station, plc:
        (first,) = processes(station)
        os.kill(first, signal.SIGSTOP)
        trigger(plc)
        sees(plc, error=True, error_code=NO_PICTURE, sequence=1)
        acknowledge(plc)
        (second,) = eventually(lambda: [one for one in processes(station) if one != first])
        assert "no frame came in time" in station.said

        def is_there() -> bool:
            trigger(plc)
            shown = sees(plc, result_valid=True)
            acknowledge(plc)
            return bool(shown["ok"])

        eventually(is_there)
        os.kill(second, signal.SIGSTOP)
        trigger(plc)
        sees(plc, busy=True)
        os.kill(second, signal.SIGKILL)
        sees(plc, error=True, error_code=NO_PICTURE)
        acknowledge(plc)
        eventually(is_there)
        assert station.said.count("the camera ended") == 2
        assert station.stop() == 0


def test_pictures_at_an_interval_and_no_others(tmp_path: Path, service: httpx.Client) -> None:
    interval, began = 0.5, time.monotonic()
    options = ("--category", "bolt", "--camera", LIVE, "--interval", str(interval))
    with Station(tmp_path, str(service.base_url), *options) as station:
        (process,) = processes(station)
        eventually(lambda: len(station.done()) >= 3)
        assert station.stop() == 0
        assert not Path(f"/proc/{process}").exists()
    assert {one["decision"] for one in station.done()} == {"PASS"}
    assert len(station.done()) <= (time.monotonic() - began) / interval + 1
    assert {path.name for path in station.folder.iterdir()} == {"done", "taken"}


def test_a_station_that_is_killed_leaves_no_camera(tmp_path: Path, service: httpx.Client) -> None:
    options = ("--category", "bolt", "--camera", LIVE, "--interval", "60")
    with Station(tmp_path, str(service.base_url), *options) as station:
        (process,) = processes(station)
        os.kill(process, signal.SIGSTOP)  # not even one that hangs
        station.kill()
        eventually(lambda: not Path(f"/proc/{process}").exists() or "State:\tZ" in status(process))


def status(process: int) -> str:
    return Path(f"/proc/{process}/status").read_text()


def test_a_disk_that_is_full_is_an_error_of_the_trigger(
    small_disk: Path, tmp_path: Path, service: httpx.Client
) -> None:
    plc = ModbusPlc()
    with with_plc(small_disk, service, plc, LIVE) as station, plc:
        with pytest.raises(OSError, match="space"):
            (small_disk / "fill").write_bytes(bytes(2**21))
        trigger(plc)
        sees(plc, error=True, error_code=NO_PICTURE)
        assert not [*(station.folder / "taken").glob(".picture")]
        (small_disk / "fill").unlink()
        acknowledge(plc)
        trigger(plc)
        sees(plc, ok=True)


@pytest.mark.parametrize(
    ("camera", "reason"),
    [
        ("nosuchsrc", "nosuchsrc"),
        ("v4l2src device=/nowhere", "No such file"),
        ("videotestsrc num-buffers=0", "ended"),
        ("videotestsrc pattern=solid-color ! video/x-raw,format=GRAY8,width=8200,height=8200", "64.1 MB"),
    ],
)
def test_a_pipeline_that_brings_no_frame_is_refused(
    tmp_path: Path, service: httpx.Client, camera: str, reason: str
) -> None:
    given = ("--folder", str(tmp_path), "--service", str(service.base_url), "--category", "bolt")
    assert_refused(reason, *given, "--camera", camera)


def test_without_gstreamer_it_says_what_to_install(
    tmp_path: Path, service: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    given = ("--folder", str(tmp_path), "--service", str(service.base_url), "--category", "bolt")
    assert_refused("gstreamer1.0-tools", *given, "--camera", LIVE)
