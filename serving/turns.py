"""The model's turns: one thread judges, one picture at a time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Turns:
    """Work that a thread does, one piece after the other, in the order in which it was asked for."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "judge")
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` gives or raises. Cancelled before its turn, it is not done, and nothing holds it any more; during
        its turn, it is done to its end, and the next turn begins only then.
        """
        await self._turn.acquire()
        done = asyncio.get_running_loop().run_in_executor(self._thread, work)
        done.add_done_callback(self._next)
        return await asyncio.shield(done)

    def _next(self, done: "asyncio.Future[T]") -> None:
        self._turn.release()
        done.exception()  # looked at, in case nobody waits for it any more
