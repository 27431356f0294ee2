"""Work on many images in as many processes as there are cores, each with one thread of torch."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch

from inpformer.errors import UserError

S = TypeVar("S")
T = TypeVar("T")

JOB_IMAGES = 64  # a job: many jobs a core, so that no core waits long for another
WORTHWHILE = 500  # images a process: it takes seconds to start


class Spread(Protocol):
    """As `map` of one iterable: results in the order of the jobs."""

    def __call__(self, work: Callable[[S], T], jobs: Iterable[S], /) -> Iterator[T]: ...


@contextmanager
def spread(images: int, alone: bool = False) -> Iterator[Spread]:
    """A `map` over jobs in processes; in this one if it is to be `alone`, with few images or one core.

    What it maps must be a function of a module. Raises UserError if a process is killed.
    """
    count = 1 if alone else min(os.cpu_count() or 1, images // WORTHWHILE)
    if count < 2:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield map
        finally:
            torch.set_num_threads(threads)
        return
    # spawned, because torch and the progress bar have threads, which a fork does not survive
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin)
    try:
        yield pool.map
    except BrokenProcessPool:
        raise UserError("a process of the gate was killed, perhaps for want of memory: run the gate again.") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    # Ctrl-C reaches the parent alone, which stops these; a parent that is killed stops them too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
