"""Work on many images in as many processes as there are cores, each with one thread of torch."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

S = TypeVar("S")
T = TypeVar("T")
Spread = Callable[[Callable[[S], T], Iterable[S]], Iterator[T]]

JOB_IMAGES = 64  # a job: many jobs a core, so that no core waits long for another
WORTHWHILE = 500  # images a process: it takes seconds to start


@contextmanager
def spread(images: int, most: int | None = None) -> Iterator[Spread]:
    """A `map` over jobs in processes, results in order; with few images or one core, in this process.

    What it maps must be a function of a module. More threads than one a process would only wait for each other.
    """
    count = min(len(os.sched_getaffinity(0)), images // WORTHWHILE, most or images)
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
