"""What a request may cost: the time and the memory of its body, decoding that nobody waits for, a place in the line."""

import asyncio
import gc
import json
import os
import pickle
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from threading import Event
from typing import Any
from weakref import ref

import numpy as np
import pytest
from PIL import Image
from starlette.requests import Request

from inpformer.images.deep import WHITE
from inpformer.images.opening import MAX_SCANNED
from serving import ingress, upload
from serving.answers import RequestError
from serving.decoding import Decoders
from serving.line import MOST_WAITING, Line
from serving.turns import Turns
from serving.upload import Bodies
from tests.images.test_opening import of_scans
from tests.serving.pictures import as_file, picture

PICTURE = as_file(picture())


def request(chunks: list[bytes], seconds: float = 0) -> Request:
    """One whose body arrives in pieces, `seconds` before each."""
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(seconds)
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


async def read(bodies: Bodies, sent: Request, seconds: float = 60) -> bytes:
    async with bodies.upload(sent, seconds) as body:
        return body


def refused(work: Callable[[], Any]) -> RequestError:
    with pytest.raises(RequestError) as found:
        asyncio.run(work())
    return found.value


def test_a_body_that_comes_too_slowly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "BODY_SECONDS", 0.2)
    bodies = Bodies(2**20)
    assert refused(lambda: read(bodies, request([b"x"] * 1000, 0.05))).status == 408
    assert asyncio.run(read(bodies, request([b"x", b"y"]))) == b"xy"


def test_a_body_is_not_waited_for_longer_than_its_client_waits() -> None:
    began = time.monotonic()
    error = refused(lambda: read(Bodies(2**20), request([b"x"] * 100, 0.1), seconds=0.3))
    assert (error.status, error.retry_after) == (504, 1)
    assert time.monotonic() - began < upload.BODY_SECONDS


def test_what_happens_while_a_body_is_answered_is_not_its_lateness() -> None:
    async def slow_answer() -> None:
        async with Bodies(2**20).upload(request([b"x"]), 60):
            raise TimeoutError("of the model")

    with pytest.raises(TimeoutError, match="of the model"):
        asyncio.run(slow_answer())


def test_bodies_share_a_memory_and_give_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "HELD_BYTES", 100)
    bodies = Bodies(2**20)

    async def two() -> bytes:
        async with bodies.upload(request([b"x" * 60]), 60):
            return await read(bodies, request([b"x" * 60]))

    for _ in range(2):  # what is refused is given back too
        error = refused(two)
        assert (error.status, error.retry_after, error.full) == (503, 1, True)
    assert asyncio.run(read(bodies, request([b"x" * 50] * 2))) == b"x" * 100


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_picture_comes_back_as_it_was(mode: str) -> None:
    image = picture().convert(mode)

    async def decoded() -> Image.Image:
        with closing(Decoders(1)) as decoders:
            return await decoders.decode(as_file(image), WHITE)

    np.testing.assert_array_equal(np.asarray(asyncio.run(decoded())), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("content", "status"), [(b"hello", 400), (of_scans(101, picture()), 413)])
def test_what_is_no_picture_is_refused_and_the_next_one_decoded(content: bytes, status: int) -> None:
    async def both() -> Image.Image:
        with closing(Decoders(1)) as decoders:
            with pytest.raises(RequestError) as found:
                await decoders.decode(content, WHITE)
            assert (found.value.status, found.value.reason.startswith("the upload ")) == (status, True)
            return await decoders.decode(PICTURE, WHITE)

    assert asyncio.run(both()).size == picture().size


def children() -> set[int]:
    """The processes that this one started, and that live."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        direct = set(map(int, file.read().split()))
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children") as file:
                direct |= set(map(int, file.read().split()))
        except FileNotFoundError:  # a thread that ended
            continue
    return direct


def test_nobody_decodes_what_nobody_waits_for() -> None:
    side = 8000
    slow = of_scans(MAX_SCANNED // side**2, Image.new("L", (side, side)))  # several seconds of work

    async def given_up() -> Image.Image:
        with closing(Decoders(1)) as decoders:
            before = children()
            await decoders.decode(PICTURE, WHITE)
            (started,) = children() - before
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await decoders.decode(slow, WHITE)
            image = await decoders.decode(PICTURE, WHITE)  # by another one
            assert started not in children()
            return image

    assert asyncio.run(given_up()).size == picture().size


def test_a_decoder_that_was_killed_is_replaced() -> None:
    async def after_a_kill() -> Image.Image:
        with closing(Decoders(1)) as decoders:
            before = children()
            await decoders.decode(PICTURE, WHITE)
            for process in children() - before:
                os.kill(process, signal.SIGKILL)
            return await decoders.decode(PICTURE, WHITE)

    assert asyncio.run(after_a_kill()).size == picture().size


def test_who_would_wait_too_long_is_told_at_once() -> None:
    line = Line()
    with line.place(1.0):  # nobody is before it, and nothing was measured
        line.took(2.0, 1)
        with line.place(4.0), pytest.raises(RequestError) as found, line.place(5.0):
            pass
    assert (found.value.status, found.value.retry_after, found.value.full) == (503, 4, True)
    with line.place(1.0):  # whoever is alone is judged, however long that takes
        pass


@pytest.mark.parametrize(("full", "said"), [(True, {"error": "x.", "full": True}), (False, {"error": "x."})])
def test_a_refusal_says_whether_others_are_why(full: bool, said: dict[str, Any]) -> None:
    error = pickle.loads(pickle.dumps(RequestError(503, "x.", retry_after=1, full=full)))  # as between replicas
    answer = asyncio.run(ingress._refuse(request([b""]), error))
    assert (answer.status_code, json.loads(bytes(answer.body)), answer.headers["retry-after"]) == (503, said, "1")


def test_a_full_line_lets_nobody_in_until_somebody_leaves() -> None:
    line = Line()
    places = [line.place(1.0) for _ in range(MOST_WAITING)]
    for place in places:
        place.__enter__()
    assert line.is_full
    with pytest.raises(RequestError), line.place(60.0):
        pass
    places.pop().__exit__(None, None, None)
    assert not line.is_full


def test_a_picture_whose_tiles_take_longer_than_is_left_is_refused() -> None:
    line = Line()
    line.took(1.0, 10)
    line.refuse_long(30, 3.5)
    with pytest.raises(RequestError) as found:
        line.refuse_long(40, 3.5)
    assert found.value.status == 413


class Picture:
    """Something that can be held."""


def test_work_that_nobody_waits_for_is_not_done_and_not_held() -> None:
    goes_on, done = Event(), []
    first, last = Picture(), Picture()

    def work(items: Sequence[Picture]) -> list[str]:
        if items == [first]:
            goes_on.wait(60)
        done.extend(items)
        return ["judged" for _ in items]

    async def given_up() -> str:
        turns: Turns[Picture, str] = Turns(work, lambda seconds, items: None)
        dropped = Picture()
        gone = ref(dropped)
        running = asyncio.create_task(turns.run(first, 1, 8))
        waiting = asyncio.create_task(turns.run(dropped, 1, 8))
        del dropped
        await asyncio.sleep(0)
        for task in (running, waiting):
            task.cancel()
        await asyncio.wait([running, waiting])
        del waiting, task
        gc.collect()
        assert (gone(), done) == (None, [])
        then = asyncio.create_task(turns.run(last, 1, 8))
        await asyncio.sleep(0)
        assert not done  # the first has the turn until it ends
        goes_on.set()
        return await then

    assert asyncio.run(given_up()) == "judged"
    assert done == [first, last]


def test_those_who_wait_for_the_same_have_one_turn_and_each_its_own_result() -> None:
    goes_on = Event()
    turned: list[tuple[int, ...]] = []
    took: list[tuple[bool, int]] = []

    def work(items: Sequence[int]) -> list[int | Exception]:
        goes_on.wait(60)
        turned.append(tuple(items))
        if 8 in items:
            raise RequestError(503, "all of its turn")
        return [RequestError(500, "5") if item == 5 else 10 * item for item in items]

    async def all_at_once() -> list[int | BaseException]:
        turns: Turns[int, int] = Turns(work, lambda seconds, items: took.append((seconds > 0, len(items))))
        kinds = dict.fromkeys(range(1, 7), "a") | {7: "b", 8: "a", 9: "a"}
        asked = [turns.run(number, kind, 1 if number == 9 else 4) for number, kind in kinds.items()]
        tasks = [asyncio.create_task(one) for one in asked]
        await asyncio.sleep(0)
        goes_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(all_at_once())
    assert turned == [(1,), (2, 3, 4, 5), (6,), (7,), (8, 9)]
    assert took == [(True, len(items)) for items in turned]
    refused = {number: one.status for number, one in enumerate(found, 1) if isinstance(one, RequestError)}
    assert refused == {5: 500, 8: 503, 9: 503}
    assert [one for one in found if isinstance(one, int)] == [10, 20, 30, 40, 60, 70]
