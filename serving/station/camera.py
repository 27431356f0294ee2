"""A camera as the station's source: a frame that was exposed after somebody asked for it, by GStreamer's process, which
is started again where it ends or hangs.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass

from inpformer.errors import UserError, without_password
from serving.station.gstreamer import CameraError, GStreamer, check_installed, launched, until

# Of a camera that runs freely, when somebody asks: one waits in the queue, one is being transferred, and one is being
# exposed. Those in the pipe come before.
UNDER_WAY = 3
# So often a frame is read that nobody asked for, to see that the camera is alive.
BEAT_SECONDS = 1.0
SILENT_SECONDS = 10.0  # so long it may bring none
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


@dataclass(eq=False)
class Asked:
    """Somebody waits for a frame; so many that were older have `passed`."""

    frame: "asyncio.Future[bytes]"
    passed: int = 0


class Camera:
    """`start` it, then ask for frames; `stop` it. `pipeline` are the words of gst-launch-1.0. A camera that `is_fired`
    brings a frame when the PLC wants it, and none else. Raises UserError where there is no GStreamer.
    """

    def __init__(self, pipeline: Sequence[str], is_fired: bool) -> None:
        check_installed()
        self._pipeline, self._is_fired = pipeline, is_fired
        self._asked: Asked | None = None
        self._wanted, self._there = asyncio.Event(), asyncio.Event()
        self._gstreamer: GStreamer | None = None

    async def start(self) -> None:
        """Raises UserError where the pipeline brings nothing."""
        self._running = asyncio.create_task(self._run())
        await until(self._there, self._running)
        if self._running.done():
            try:
                await self._running
            except CameraError as error:
                camera = without_password(" ".join(self._pipeline))
                raise UserError(f"--camera is {camera!r}, which brings no frame: {error}.") from None

    async def serve(self) -> None:
        """For as long as it is not stopped."""
        await asyncio.shield(self._running)

    async def stop(self) -> None:
        """Ends its process."""
        self._running.cancel()
        await asyncio.wait([self._running])

    async def frame(self) -> bytes:
        """An image file of a frame that was exposed after this was called. One at a time may wait. Raises CameraError
        where the camera ends, or has ended. Cancelled, it is taken to hang, and started again.
        """
        if not self._there.is_set():
            raise CameraError("it is being started again")
        self._asked = asked = Asked(asyncio.get_running_loop().create_future())
        self._wanted.set()
        try:
            return await asked.frame
        except asyncio.CancelledError:
            if self._gstreamer:
                self._gstreamer.hang_up("no frame came in time")
            raise
        finally:
            self._asked = None
            self._wanted.clear()

    async def _run(self) -> None:
        """Raises CameraError where the first process brings nothing; others follow."""
        pause = 0.0
        while True:
            try:
                async with launched(self._pipeline) as self._gstreamer:
                    await self._read(self._gstreamer)
            except CameraError as error:
                if not (self._there.is_set() or pause):
                    raise
                pause = FIRST_PAUSE if self._there.is_set() else min(2 * pause, LONGEST_PAUSE)
                self._there.clear()
                if self._asked and not self._asked.frame.done():
                    self._asked.frame.set_exception(error)
                print(f"the camera ended ({error}): it is started again in {pause:g} s", file=sys.stderr, flush=True)
            await asyncio.sleep(pause)

    async def _read(self, gstreamer: GStreamer) -> None:
        """Until it ends or hangs, which is a CameraError."""
        if self._is_fired:
            async with _patience("it did not start"):
                await gstreamer.playing()
            self._there.set()
        while True:
            async with nullcontext() if self._is_fired else _patience("it brought no frame"):
                length = await gstreamer.next_length()
                asked = self._asked  # whoever asks from here on is not meant: this frame is older
                content = await gstreamer.content(length)
            self._there.set()
            older = 0 if self._is_fired else gstreamer.lying(length) + UNDER_WAY
            if asked is None or asked.frame.done():
                await self._until_wanted()
            elif asked.passed < older:
                asked.passed += 1
            else:
                file = await asyncio.to_thread(gstreamer.form.tiff, content)
                if not asked.frame.done():
                    asked.frame.set_result(file)

    async def _until_wanted(self) -> None:
        """Until somebody asks, or the next beat. Of a camera that is fired each frame is read, so that none is left."""
        if not self._is_fired:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._wanted.wait()


@asynccontextmanager
async def _patience(what: str) -> AsyncIterator[None]:
    """Raises CameraError where it takes too long."""
    try:
        async with asyncio.timeout(SILENT_SECONDS):
            yield
    except TimeoutError:
        raise CameraError(f"{what} within {SILENT_SECONDS:g} s") from None
