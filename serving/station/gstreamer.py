"""One process of GStreamer's gst-launch-1.0, which brings a camera's frames through a pipe:

    PIPELINE ! queue ! videoconvert ! capsfilter ! identity ! multipartmux ! fdsink

The queue keeps the newest frame alone: while nobody reads, the others are dropped, neither converted nor copied. What
comes is uncompressed. identity says in the lines of --verbose what frames it are, and multipartmux before each its
length. The `caps` of a pad cannot be relied on there: where two threads say theirs at once, GStreamer drops one.
"""

import asyncio
import fcntl
import io
import os
import re
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from inpformer.errors import UserError, without_password
from serving.asking import LARGEST_PICTURE

PROGRAM = "gst-launch-1.0"
# So that it ends with the station, also where that is killed.
COMMAND = ("setpriv", "--pdeathsig", "KILL", PROGRAM, "--verbose")
NAME = "station"  # of the element that says the frames' form
MODES = {"GRAY8": "L", "GRAY16_LE": "I;16", "RGB": "RGB"}
BYTES = {"L": 1, "I;16": 2, "RGB": 3}  # a pixel
END = (
    *("!", "queue", "leaky=downstream", "max-size-buffers=1", "max-size-bytes=0", "max-size-time=0"),
    *("!", "videoconvert", "dither=none"),
    *("!", "capsfilter", f"caps=video/x-raw,format={{{','.join(MODES)}}}"),
    *("!", "identity", f"name={NAME}", "silent=false"),
    *("!", "multipartmux", "boundary=frame", "!", "fdsink", "enable-last-sample=false"),
)
CAPS = re.compile(rf"GstIdentity:{NAME}: last-message = event .*GstEventCaps, (.*)")
PLAYING = "Setting pipeline to PLAYING"
REASON = re.compile(r"(?:ERROR: from element \S+: |WARNING: erroneous pipeline: |ERROR: )(.*)")
WHERE = re.compile(r"\S+\(\d+\): .*:$")  # a line of GStreamer's source; the next says more of the reason
LENGTH = b"Content-Length: "
LONGEST_HEADER = 100
BUFFER_BYTES = 4096
ENDING_SECONDS = 2.0


class CameraError(Exception):
    """There is no frame: the message says why."""


@dataclass(frozen=True)
class Form:
    """What a frame's bytes are. `mode` is Pillow's."""

    mode: str
    width: int
    height: int

    @property
    def stride(self) -> int:
        """The bytes of a row, which GStreamer fills up to a multiple of 4."""
        return -(-self.width * BYTES[self.mode] // 4) * 4

    def tiff(self, content: bytes) -> bytes:
        """The frame as an image file: uncompressed, as a PNG of 5 megapixels takes a second."""
        size = (self.width, self.height)
        image = Image.frombuffer(self.mode, size, content, "raw", self.mode, self.stride, 1)
        file = io.BytesIO()
        image.save(file, "TIFF")
        return file.getvalue()


def check_installed() -> None:
    """Raises UserError where there is no GStreamer."""
    if missing := [name for name in (PROGRAM, COMMAND[0]) if shutil.which(name) is None]:
        raise UserError(
            f"--camera needs {' and '.join(missing)}: install gstreamer1.0-tools, gstreamer1.0-plugins-base, "
            "gstreamer1.0-plugins-good and util-linux."
        )


@asynccontextmanager
async def launched(pipeline: Sequence[str]) -> AsyncIterator["GStreamer"]:
    """The process of a pipeline, which is ended with the block."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # fdsink waits by poll then, and can be ended while nobody reads
    with os.fdopen(reading, "rb", BUFFER_BYTES) as frames:
        try:
            process = await asyncio.create_subprocess_exec(
                *(*COMMAND, *pipeline, *END, f"fd={writing}"),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                pass_fds=[writing],
                env=os.environ | {"LC_ALL": "C.UTF-8"},  # whose words are read
                start_new_session=True,  # Ctrl-C is for the station
            )
        except OSError as error:
            raise CameraError(f"{PROGRAM} cannot be started ({error.strerror})") from None
        finally:
            os.close(writing)
        gstreamer = GStreamer(process, frames)
        try:
            yield gstreamer
        finally:
            await gstreamer.end()


class GStreamer:
    """The process, and its frames."""

    def __init__(self, process: Process, frames: BinaryIO) -> None:
        self._process, self._frames = process, frames
        self.form = Form("L", 0, 0)  # until it is known
        self._reasons: list[str] = []
        self._formed, self._playing = asyncio.Event(), asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    async def playing(self) -> None:
        """Once frames may come. Raises CameraError where it ends before."""
        await self._until(self._playing)

    async def next_length(self) -> int:
        """Waits for the next frame to begin, which has so many bytes. Raises CameraError."""
        length = await asyncio.to_thread(self._header)
        if length is None:
            raise await self._error()
        if length > LARGEST_PICTURE:
            raise CameraError(f"its frames have {length / 2**20:.1f} MB, more than {LARGEST_PICTURE / 2**20:g}")
        await self._until(self._formed)
        if length != (form := self.form).stride * form.height:
            raise CameraError(f"a frame of {form.width}×{form.height} has {length} bytes")
        return length

    async def content(self, length: int) -> bytes:
        """Of the frame that began. Raises CameraError."""
        content = await asyncio.to_thread(self._frames.read, length)
        if len(content) < length:
            raise await self._error()
        return content

    def lying(self, length: int) -> int:
        """How many frames of that length may lie in the pipe, and with the one that is being written to it."""
        return (fcntl.fcntl(self._frames, fcntl.F_GETPIPE_SZ) + BUFFER_BYTES) // length + 1

    def hang_up(self, why: str) -> None:
        """Nothing is expected of it any more: whoever reads gets a CameraError."""
        self._reasons.insert(0, why)
        if self._process.returncode is None:
            self._process.kill()

    async def end(self) -> None:
        """Orderly, so that a camera is free for the next at once; if it hangs, by force."""
        try:
            if self._process.returncode is None:
                self._process.send_signal(signal.SIGINT)
            async with asyncio.timeout(ENDING_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        finally:
            await self._listening

    def _header(self) -> int | None:
        while line := self._frames.readline(LONGEST_HEADER):
            if line.startswith(LENGTH):
                self._frames.readline(LONGEST_HEADER)  # an empty one
                return int(line.removeprefix(LENGTH))
        return None

    async def _listen(self) -> None:
        """To what GStreamer prints, until it ends."""
        assert self._process.stdout is not None
        is_where = False
        while True:
            try:
                line = (await self._process.stdout.readline()).decode(errors="replace")
            except ValueError:  # a line without an end
                continue
            if not line:
                return
            if line.startswith(PLAYING):
                self._playing.set()
            elif caps := CAPS.search(line):
                self.form = _form(caps[1])
                self._formed.set()
            elif len(self._reasons) < 2 and (reason := REASON.match(line)):
                self._reasons.append(reason[1].strip().rstrip("."))
            elif len(self._reasons) == 1 and is_where:
                self._reasons.append(line.strip().rstrip("."))
            is_where = WHERE.match(line) is not None

    async def _until(self, said: asyncio.Event) -> None:
        """Raises CameraError where it ends before."""
        await until(said, self._listening)
        if not said.is_set():
            raise await self._error()

    async def _error(self) -> CameraError:
        """Why it ended."""
        await self._listening
        await self._process.wait()  # before anybody signals to it, which would take the exit status from asyncio
        return CameraError(without_password(": ".join(self._reasons)) or "it ended")


async def until(said: asyncio.Event, ending: "asyncio.Task[None]") -> None:
    """Waits until it is said, or that task has ended, whatever it raises."""
    waiting = asyncio.create_task(said.wait())
    try:
        await asyncio.wait([waiting, ending], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


def _form(caps: str) -> Form:
    found = dict(re.findall(r"(width|height|format)=\(\w+\)(\w+)", caps.replace("\\", "")))
    return Form(MODES[found["format"]], int(found["width"]), int(found["height"]))
