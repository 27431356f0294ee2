"""Iterators that work ahead, and in chunks."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def ahead(work: Callable[[S], T], items: Iterable[S], count: int) -> Iterator[T]:
    """`work` of each item in order; that of the next `count` items goes on in threads meanwhile."""
    with ThreadPoolExecutor(count) as pool:
        yield from ahead_in(pool, work, items, count)


def ahead_in(pool: Executor, work: Callable[[S], T], items: Iterable[S], count: int) -> Iterator[T]:
    """As `ahead`, in a pool that is there."""
    pending: deque[Future[T]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) > count:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """The items, up to `size` together."""
    while chunk := list(islice(items, size)):
        yield chunk
