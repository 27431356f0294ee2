"""Iterators that work ahead, and in chunks."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def ahead(work: Callable[[S], T], items: Iterable[S], count: int) -> Iterator[T]:
    """`work` of each item in order; that of the next `count` items goes on in threads meanwhile."""
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(count) as pool:
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
