"""The station: every picture of the folder is judged, and that of a trigger is a PLC's result. With a camera it takes
the pictures itself: one a trigger, or one an interval.

Two pictures are judged at a time: one that a PLC waits for, and one that nobody does.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from serving.asking import without_verdict
from serving.station.camera import Camera
from serving.station.folder import Dropped, Folder, Picture
from serving.station.gstreamer import CameraError
from serving.station.handshake import Ended, Event, Handshake, Inputs, Outputs, Started
from serving.station.judging import LOOK_SECONDS, is_ready, judge
from serving.station.results import ErrorCode, Result, failure, result_of
from serving.station.settings import Settings

RETRY_SECONDS = 1.0
# Of the time, the share that looking into a full folder takes.
LOOKING = 0.2
# Pictures that nobody triggered are taken so far ahead.
AHEAD = 8
# Of one of these, where the service is ready and does not answer.
TRIES = 2
INTERVAL_SECONDS = 1.0  # of pictures of the camera, where nobody triggers them
FRAME = "camera.tif"  # the name of a picture of the camera


class Part(Protocol):
    """What runs beside the station."""

    async def start(self) -> None: ...
    async def serve(self) -> None: ...
    async def stop(self) -> None: ...


class Output(Part, Protocol):
    """A protocol that PLCs speak."""

    name: str

    def show(self, outputs: Outputs) -> None: ...


@dataclass
class Judged:
    """A picture, what the service answered, and what a PLC was told; None without PLCs."""

    picture: Picture
    answer: dict[str, Any]
    plc: dict[str, Any] | None
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))

    @property
    def verdict(self) -> dict[str, Any]:
        """As it is kept beside the picture."""
        return {**self.answer, "judged_at": self.at} | ({} if self.plc is None else {"plc": self.plc})


@dataclass(eq=False)
class Inspection:
    """What a trigger started. Its picture is found later than the look `after`; None until that is known, and where a
    camera brings it.
    """

    started: Started
    after: int | None = None
    picture: "asyncio.Future[Picture]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def found(self) -> Picture | None:
        """The picture, if there is one."""
        has_one = self.picture.done() and not self.picture.cancelled() and self.picture.exception() is None
        return self.picture.result() if has_one else None

    def wants(self, dropped: Dropped) -> bool:
        """Whether that is its picture."""
        return self.after is not None and dropped.look > self.after and not self.picture.done()


class Station:
    """`add` its outputs, then `run`."""

    def __init__(self, settings: Settings, folder: Folder, camera: Camera | None = None) -> None:
        self._settings, self._folder, self._camera = settings, folder, camera
        self._handshake = Handshake(settings.products)
        self._outputs: list[Output] = []
        self._looking, self._keeping = asyncio.Lock(), asyncio.Lock()
        self._untriggered: asyncio.Queue[Picture | None] = asyncio.Queue()
        self._inspection: Inspection | None = None
        self._shown: Judged | None = None  # of the result that a PLC can see
        self._under_way: set[asyncio.Task[None]] = set()
        self._stopping = threading.Event()
        self._is_away: set[str] = set()
        self._judged = 0

    def add(self, make: Callable[[Callable[[str, Inputs], None]], Output]) -> None:
        """An output, made of what it calls when a PLC wrote."""
        self._outputs.append(make(self._written))

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping` is set, and what is under way then is judged. Raises UserError where an output cannot
        listen, or the camera brings nothing.
        """
        started: list[Part] = []
        serving: list[asyncio.Task[None]] = []
        try:
            for part in (*filter(None, [self._camera]), *self._outputs):
                await part.start()
                started.append(part)
                serving.append(asyncio.create_task(part.serve()))
            if self._camera and not self._outputs:
                serving.append(asyncio.create_task(self._photograph_again(self._camera)))
            self._show()
            for picture in self._folder.left():
                self._untriggered.put_nowait(picture)
            watching = [self._do(self._watch()), self._do(self._judge_untriggered())]
            print("the station is ready", flush=True)
            stopped = asyncio.create_task(stopping.wait())
            # None of the others ends by itself, but where something happens that nobody expected.
            await asyncio.wait([stopped, *watching, *serving], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            await self._stop()
            await asyncio.gather(*watching, *(task for task in serving if task.done()))
        finally:
            for task in serving:
                task.cancel()
            for part in started:
                await part.stop()

    async def _stop(self) -> None:
        self._stopping.set()
        self._untriggered.put_nowait(None)
        if self._inspection and not self._inspection.picture.done():
            self._inspection.picture.cancel()
        while self._under_way:
            await asyncio.wait(self._under_way)
        self._follow(self._handshake.stop())
        print(f"stopped: {self._judged} pictures judged, {self._handshake.undelivered} undelivered", file=sys.stderr)

    # Handshake

    def _written(self, name: str, inputs: Inputs) -> None:
        """A PLC wrote."""
        self._follow(self._handshake.write(name, inputs))
        self._show()

    def _follow(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Ended):
                self._end(event)
            elif not self._stopping.is_set():
                self._inspection = Inspection(event)
                self._do(self._inspect(self._inspection))

    def _show(self) -> None:
        for output in self._outputs:
            output.show(self._handshake.outputs(output.name))

    async def _inspect(self, inspection: Inspection) -> None:
        """From the trigger to what the PLC is shown, whatever happens."""
        patience = self._settings.patience
        answer: dict[str, Any] | None
        try:
            async with asyncio.timeout(patience):
                answer = await self._answer(inspection)
        except TimeoutError:
            answer = without_verdict({}, f"there was no answer within {patience:g} s.", None)
        except CameraError as error:
            self._say(f"trigger {inspection.started.sequence} has no picture: {error}")
            answer = without_verdict({}, str(error), None)
        except Exception as error:  # none is expected, and the PLC waits
            self._say(f"an inspection failed ({type(error).__name__}: {error})")
            answer = without_verdict({}, "the station failed.", 500)
        if answer is not None:  # else the station is being stopped
            await self._tell(inspection, answer)

    async def _answer(self, inspection: Inspection) -> dict[str, Any] | None:
        if self._camera:
            picture = self._photograph(self._camera, inspection.started.product)
            inspection.picture = asyncio.create_task(picture)
        else:
            async with self._looking:
                await asyncio.to_thread(self._folder.look)
                inspection.after = self._folder.looks
        self._handshake.begin()
        self._show()
        return await self._judge(await inspection.picture, inspection.started.category)

    async def _tell(self, inspection: Inspection, answer: dict[str, Any]) -> None:
        picture, started = inspection.found, inspection.started
        self._inspection = None
        told = self._handshake.finish(failure(ErrorCode.NO_PICTURE) if picture is None else result_of(answer))
        self._shown = None if picture is None else Judged(picture, answer, _told(told, started))
        judged = self._shown
        self._show()
        if judged:
            await self._keep(judged)

    def _end(self, ended: Ended) -> None:
        judged, self._shown = self._shown, None
        if not ended.delivered:
            what = f"result {ended.sequence}, {ended.result.decision}"
            self._say_undelivered(f"{what}, {judged.picture.name!r}" if judged else what, "it was not acknowledged")
        elif judged and judged.plc:
            judged.plc["delivered"] = True
            self._do(self._keep(judged))

    def _say_undelivered(self, what: str, why: str) -> None:
        self._say(f"undelivered, {self._handshake.undelivered} so far: {what}: {why}")

    # Pictures

    async def _watch(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                async with self._looking:
                    found = await asyncio.to_thread(self._folder.look)
                for dropped in found:
                    await self._hand_out(dropped)
                self._is_there("the folder")
            except OSError as error:
                self._say_away("the folder", str(error.strerror))
            await asyncio.sleep(max(LOOK_SECONDS, (time.monotonic() - began) / LOOKING))

    async def _hand_out(self, dropped: Dropped) -> None:
        """To whoever waits for it: the inspection, or those who judge what nobody triggered."""
        inspection = self._inspection
        if not (inspection and inspection.wants(dropped)) and self._untriggered.qsize() >= AHEAD:
            return
        product = inspection.started.product if inspection and inspection.wants(dropped) else 0
        try:
            picture = await asyncio.to_thread(self._folder.take, dropped, product)
        except FileNotFoundError:  # somebody else moved it
            return
        except OSError as error:
            self._say_away(repr(dropped.path.name), str(error.strerror))
            return
        if inspection and product and inspection.wants(dropped):
            inspection.picture.set_result(picture)
        else:  # also where the inspection ended meanwhile
            self._untriggered.put_nowait(picture)

    async def _photograph(self, camera: Camera, product: int) -> Picture:
        """Raises CameraError."""
        frame = await camera.frame()
        try:
            picture = await asyncio.to_thread(self._folder.put, frame, FRAME, product)
        except OSError as error:
            self._say_away("the folder of pictures", str(error.strerror))
            raise CameraError(f"the frame cannot be written ({error.strerror})") from None
        self._is_there("the folder of pictures")
        return picture

    async def _photograph_again(self, camera: Camera) -> None:
        """One picture an interval, as long as those before were judged: others would fill the disk."""
        while not self._stopping.is_set():
            pause = asyncio.create_task(asyncio.sleep(self._settings.interval or INTERVAL_SECONDS))
            if self._untriggered.empty():
                with suppress(TimeoutError, CameraError):  # it says so itself
                    async with asyncio.timeout(self._settings.patience):
                        self._untriggered.put_nowait(await self._photograph(camera, 0))
            await pause

    async def _judge_untriggered(self) -> None:
        while (picture := await self._untriggered.get()) and not self._stopping.is_set():
            # That of a trigger was taken before the station was ended, or as the patience did.
            category = self._settings.products.get(picture.product, self._settings.category)
            answer = await self._judge_in_the_end(picture, category)
            if answer is None:
                return
            if self._settings.has_plc:
                self._handshake.miss()
                self._show()
                self._say_undelivered(f"{picture.name!r}, {answer.get('decision')}", "no trigger waited for it")
            plc = {"sequence": None, "delivered": False} if self._settings.has_plc else None
            await self._keep(Judged(picture, answer, plc))

    async def _judge_in_the_end(self, picture: Picture, category: str | None) -> dict[str, Any] | None:
        """Waits for a service that is away, and not for one that is ready and does not answer for this picture."""
        tries = 0
        while (answer := await self._judge(picture, category)) and result_of(answer).code is ErrorCode.NO_ANSWER:
            if await self._is_ready():
                tries += 1
                if tries == TRIES:
                    break
            else:
                self._say_away("the service", str(answer.get("error")))
                while not self._stopping.is_set() and not await self._is_ready():
                    await asyncio.sleep(RETRY_SECONDS)
                self._is_there("the service")
        return answer

    async def _is_ready(self) -> bool:
        return await asyncio.to_thread(is_ready, self._settings.service)

    async def _judge(self, picture: Picture, category: str | None) -> dict[str, Any] | None:
        patience, service = self._settings.patience, self._settings.service
        answer = await asyncio.to_thread(judge, service, picture, category, patience, self._stopping)
        self._judged += answer is not None
        return answer

    async def _keep(self, judged: Judged) -> None:
        """In the folder, as soon as that can be written to."""
        while True:
            try:
                async with self._keeping:
                    await asyncio.to_thread(self._folder.keep, judged.picture, judged.verdict)
            except OSError as error:
                self._say_away("the folder of verdicts", str(error.strerror))
            else:
                self._is_there("the folder of verdicts")
                return
            if self._stopping.is_set():  # the picture is judged again at the next start
                return
            await asyncio.sleep(RETRY_SECONDS)

    # Both

    def _do(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def _say_away(self, what: str, why: str) -> None:
        """Once, until it is there again."""
        if what not in self._is_away:
            self._say(f"{what} cannot be used ({why}): it is tried again")
        self._is_away.add(what)

    def _is_there(self, what: str) -> None:
        self._is_away.discard(what)

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def _told(told: Result, started: Started) -> dict[str, Any]:
    """What a PLC was told, as it is kept, before it acknowledged that."""
    return {
        "sequence": started.sequence,
        "product": started.product,
        "told": told.decision,
        "error_code": int(told.code),
        "delivered": False,
    }
