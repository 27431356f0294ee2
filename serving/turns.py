"""The model's turns: one thread judges, those who wait for the same together."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Turns(Generic[T, R]):
    """Gives `work` what waits, in the order in which it came, one turn after the other; `work` gives a result or an
    error for each. A turn takes what is there: nothing waits for others to come. `took` is told after each turn how
    long it was, in seconds, and what had it.
    """

    def __init__(
        self, work: Callable[[Sequence[T]], Sequence[R | Exception]], took: Callable[[float, Sequence[T]], None]
    ) -> None:
        self._work, self._took = work, took
        self._thread = ThreadPoolExecutor(1, "judge")
        self._line: deque[_Waiting[T, R]] = deque()
        self._busy = False

    def __len__(self) -> int:
        """How many wait for a turn."""
        return len(self._line)

    async def run(self, item: T, kind: Hashable, most: int) -> R:
        """What becomes of `item`. Those of its `kind` behind it may have the same turn, `most` in all. Cancelled before
        its turn, it is not worked on, and nothing holds it any more; during its turn, it is done to its end, and the
        next turn begins only then.
        """
        waiting: _Waiting[T, R] = _Waiting(item, kind, most, asyncio.get_running_loop().create_future())
        self._line.append(waiting)
        self._next()
        try:
            return await waiting.result
        finally:
            if waiting in self._line:
                self._line.remove(waiting)

    def _next(self) -> None:
        if self._busy or not self._line:
            return
        turn = [self._line.popleft()]
        while self._line and self._line[0].kind == turn[0].kind and len(turn) < turn[0].most:
            turn.append(self._line.popleft())
        self._busy = True
        done = asyncio.get_running_loop().run_in_executor(self._thread, self._work, [one.item for one in turn])
        done.add_done_callback(partial(self._done, turn, time.perf_counter()))

    def _done(
        self, turn: Sequence["_Waiting[T, R]"], began: float, done: "asyncio.Future[Sequence[R | Exception]]"
    ) -> None:
        self._busy = False
        self._took(time.perf_counter() - began, [one.item for one in turn])
        failed = done.exception()
        found = [failed] * len(turn) if failed is not None else done.result()
        for waiting, one in zip(turn, found, strict=True):
            if waiting.result.done():  # nobody waits for it any more
                continue
            if isinstance(one, BaseException):
                waiting.result.set_exception(one)
            else:
                waiting.result.set_result(one)
        self._next()


@dataclass(eq=False)
class _Waiting(Generic[T, R]):
    item: T
    kind: Hashable
    most: int
    result: "asyncio.Future[R]"
